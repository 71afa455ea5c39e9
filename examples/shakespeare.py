"""Trains a GPT on the characters of a text, and lets it write.

python examples/shakespeare.py --data FILE   any plain text, for example Shakespeare's plays
python examples/shakespeare.py               without one it learns to write Python, from Python's own library
"""

import argparse
import math
import sysconfig
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import fluxion
from fluxion import nn
from fluxion.nn import functional as F
from fluxion.optim import AdamW


class Attention(nn.Module):
    """Causal self-attention: every position looks at itself and those before it."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x):
        batch, time, width = x.shape
        split = (batch, time, self.heads, width // self.heads)
        q, k, v = (part.view(split).transpose(1, 2) for part in self.qkv(x).split(width, dim=2))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.out(y.transpose(1, 2).contiguous().view(batch, time, width))


class Block(nn.Module):
    """Attention, then two linear layers at each position; both add to what flows through."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    """Characters in, scores of the next character out; the embedding is also the output layer."""

    def __init__(self, characters, context, layers, heads, width, dropout):
        super().__init__()
        self.context = context
        self.token = nn.Embedding(characters, width)
        self.position = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters, bias=False)
        self.head.weight = self.token.weight
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)

    def forward(self, tokens):
        positions = fluxion.arange(tokens.shape[1])
        x = self.dropout(self.token(tokens) + self.position(positions))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    @fluxion.no_grad()
    def write(self, tokens, count, rng, temperature=0.8):
        """Appends `count` tokens, each drawn from the model's own prediction."""
        tokens = list(tokens)
        for _ in range(count):
            scores = self(fluxion.tensor([tokens[-self.context :]]))[0, -1] / temperature
            p = F.softmax(scores, dim=-1).numpy().astype(np.float64)
            tokens.append(int(rng.choice(len(p), p=p / p.sum())))
        return tokens


def read_text(path):
    if path is not None:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SystemExit(f"{path} can't be read as text: {error}") from None
    print("No --data: reading Python's standard library.")
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    text = "".join(f.read_text(encoding="utf-8", errors="ignore") for f in files)
    return "".join(c for c in text[:1_500_000] if c == "\n" or " " <= c <= "~")


def sample_batch(data, size, context, rng):
    """`size` random windows, and the same windows one character later."""
    windows = rng.integers(len(data) - context, size=size)[:, None] + np.arange(context + 1)
    taken = data[windows]
    return fluxion.from_numpy(taken[:, :-1].copy()), fluxion.from_numpy(taken[:, 1:].copy())


def loss_of(model, x, y):
    scores = model(x)
    return F.cross_entropy(scores.view(-1, scores.shape[-1]), y.reshape(-1))


@fluxion.no_grad()
def evaluate(model, data, args, batches=40):
    """Mean loss over the same windows each time."""
    model.eval()
    rng = np.random.default_rng(0)
    drawn = (sample_batch(data, args.batch, args.context, rng) for _ in range(batches))
    mean = sum(loss_of(model, x, y).item() for x, y in drawn) / batches
    model.train()
    return mean


def learning_rate(step, args):
    """Linear warm-up, then half a cosine down to a tenth."""
    warmup = max(1, args.steps // 20)
    if step < warmup:
        return args.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, args.steps - warmup)
    return args.lr * (0.55 + 0.45 * math.cos(math.pi * progress))


def make_optimizer(model, args):
    """AdamW; weight decay for matrices only."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=args.lr, betas=(0.9, 0.99))


def train(model, data, args, rng):
    optimizer = make_optimizer(model, args)
    running = None
    with tqdm(range(args.steps), unit=" steps", ncols=88) as bar:
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, args)
            loss = loss_of(model, *sample_batch(data, args.batch, args.context, rng))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            value = loss.item()
            running = value if running is None else 0.95 * running + 0.05 * value
            bar.set_postfix(loss=f"{running:.3f}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="FILE", help="a plain text to learn from")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=12, help="windows per step (12)")
    parser.add_argument("--context", type=int, default=64, help="characters it sees (64)")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=1e-3, help="the schedule's peak (0.001)")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--sample", type=int, default=500, help="characters to write at the end")
    parser.add_argument("--init", metavar="FILE", help="start from these weights (safetensors)")
    parser.add_argument("--save", metavar="FILE", help="write the trained weights as safetensors")
    return parser.parse_args()


def main():
    args = parse_arguments()
    text = read_text(args.data)
    characters = sorted(set(text))
    code = {c: i for i, c in enumerate(characters)}
    data = np.array([code[c] for c in text])
    training, held_back = np.split(data, [int(0.9 * len(data))])
    if len(held_back) <= args.context:
        raise SystemExit(
            f"the text has {len(text)} characters; give more than {10 * args.context + 10}"
        )

    fluxion.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    model = GPT(len(characters), args.context, args.layers, args.heads, args.width, args.dropout)
    if args.init:
        model.load_state_dict(fluxion.load(args.init))
    size = sum(p.numel() for p in model.parameters())
    print(
        f"{len(text):,} characters, {len(characters)} different ones; {size:,} parameters; ", end=""
    )
    print(f"guessing blindly costs {math.log(len(characters)):.2f} nats a character")

    start = time.perf_counter()
    train(model, training, args, rng)
    seconds = time.perf_counter() - start
    print(f"trained {args.steps} steps in {seconds:.0f} s; loss: ", end="")
    print(f"training {evaluate(model, training, args):.4f}, ", end="")
    print(f"held back {evaluate(model, held_back, args):.4f}\n")

    model.eval()
    print("".join(characters[t] for t in model.write([code["\n"]], args.sample, rng)))
    if args.save:
        fluxion.save(model.state_dict(), args.save)
        print(f"\nweights: {args.save}")
    print(
        "\nNext: --steps 5000 --width 256 writes better; --data FILE learns from a text of yours."
    )


if __name__ == "__main__":
    main()
