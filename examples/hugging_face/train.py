"""A tiny GPT-2, made from a configuration, learns to count. Three lines are changed; each says what
it was."""

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed


class Counting(Dataset):
    """Rows of numbers that go up by 1, 2 or 3, modulo 32."""

    def __init__(self, rows, seed):
        generator = torch.Generator().manual_seed(seed)
        first = torch.randint(32, (rows, 1), generator=generator)
        step = torch.randint(1, 4, (rows, 1), generator=generator)
        self.tokens = (first + step * torch.arange(16)) % 32

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def main(config, output, callback):  # changed: was main(config, output)
    set_seed(config["seed"])
    size = {"n_embd": config["width"], "n_layer": 1, "n_head": 2, "n_positions": 16}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, bos_token_id=0, eos_token_id=0, **size))
    arguments = TrainingArguments(
        output,
        num_train_epochs=config["epochs"],
        learning_rate=config["lr"],
        per_device_train_batch_size=16,
        seed=config["seed"],
        logging_steps=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=Counting(128, seed=0),
        eval_dataset=Counting(64, seed=1),
        callbacks=[callback],  # changed: was not there
    )
    trainer.train(resume_from_checkpoint=callback.checkpoint)  # changed: was trainer.train()
    return {"test_loss": trainer.predict(Counting(64, seed=2)).metrics["test_loss"]}
