"""From a results folder to what people already use: TensorBoard, W&B, MLflow, Trackio, CSV."""

from local_machine.errors import quiet_while_importing

quiet_while_importing()
