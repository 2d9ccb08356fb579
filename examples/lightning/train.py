"""A perceptron on scikit-learn's digits. Three lines are changed; each says what it was."""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Perceptron(L.LightningModule):
    def __init__(self, width, lr):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 10)
        )
        self.lr = lr

    def training_step(self, batch, _):
        return self.measured("train", batch)

    def validation_step(self, batch, _):
        self.measured("val", batch)

    def test_step(self, batch, _):
        self.measured("test", batch)

    def measured(self, part, batch):
        images, labels = batch
        logits = self.layers(images)
        loss = nn.functional.cross_entropy(logits, labels)
        accuracy = (logits.argmax(1) == labels).float().mean()
        values = {f"{part}_loss": loss, f"{part}_accuracy": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def main(config, callback):  # changed: was main(config)
    L.seed_everything(config["seed"])
    images, labels = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    train, val, test = random_split(digits, [1297, 250, 250])
    data = DataLoader(train, config["batch_size"], shuffle=True), DataLoader(val, 250)
    model = Perceptron(config["width"], config["lr"])
    trainer = L.Trainer(
        max_epochs=config["epochs"],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[callback],  # changed: was not there
    )
    # changed: was trainer.fit(model, *data)
    trainer.fit(model, *data, ckpt_path=callback.checkpoint, weights_only=True)
    (measured,) = trainer.test(model, DataLoader(test, 250))
    return measured
