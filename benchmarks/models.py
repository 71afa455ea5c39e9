"""The models of the training benchmarks, for either library: `lib` is fluxion or torch."""


def mlp(lib):
    """784-128-64-10 on a batch of 64."""
    nn = lib.nn
    model = nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    return model, lib.randn(64, 784), lib.randint(0, 10, (64,))


def cnn(lib):
    """conv 32, conv 64, pool, 128, 10 on 64 images of 28 x 28."""
    nn = lib.nn
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    return model, lib.randn(64, 1, 28, 28), lib.randint(0, 10, (64,))


def gpt(lib, layers=4, heads=4, width=128, vocabulary=65, batch=12, context=64):
    """A GPT as nanoGPT builds it: pre-norm, tanh-free gelu, tied embedding."""
    nn, F = lib.nn, lib.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.out = nn.Linear(width, width, bias=False)
            self.up = nn.Linear(width, 4 * width, bias=False)
            self.down = nn.Linear(4 * width, width, bias=False)

        def attend(self, x):
            b, t, w = x.shape
            q, k, v = self.qkv(x).split(w, dim=2)
            q, k, v = (p.view(b, t, heads, w // heads).transpose(1, 2) for p in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).contiguous().view(b, t, w))

        def forward(self, x):
            x = x + self.attend(self.norm1(x))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Embedding(vocabulary, width)
            self.position = nn.Embedding(context, width)
            self.blocks = nn.ModuleList([Block() for _ in range(layers)])
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)
            self.head.weight = self.token.weight

        def forward(self, tokens):
            x = self.token(tokens) + self.position(lib.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)).view(-1, vocabulary)

    x = lib.randint(0, vocabulary, (batch, context))
    return Model(), x, lib.randint(0, vocabulary, (batch * context,))
