# %% [markdown]
# # Adapt a network that is trained already
#
# A classifier that was trained at one resolution loses accuracy at every other. Here such a network is read from a
# file, converted, and trained for some more steps at three resolutions at once: one set of weights, good at all three.
# The images are drawn below, so that the notebook runs anywhere in less than a minute on two CPU cores; put your own
# file and your own images in their place.

# %%
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader

import rsseg
from rsseg.classifiers.build import build_classifier

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
model = {"name": "resnet10t", "classes": 3}
classes = ["circle", "square", "triangle"]
resolutions = [32, 24, 16]

# %% [markdown]
# ## Images
#
# A circle, a square or a triangle somewhere on a noisy ground.


# %%
def draw(label: int, rng: np.random.Generator) -> Image.Image:
    ground = rng.integers(0, 120, 3) + rng.integers(0, 60, (64, 64, 3))
    picture = Image.fromarray(ground.astype(np.uint8))
    pen, colour = ImageDraw.Draw(picture), tuple(rng.integers(120, 256, 3).tolist())
    r = int(rng.integers(10, 22))
    x, y = rng.integers(r, 64 - r, 2).tolist()
    if label == 0:
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif label == 1:
        pen.rectangle((x - r, y - r, x + r, y + r), fill=colour)
    else:
        pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=colour)
    return picture


def drawn(count: int, seed: int) -> list[tuple[Image.Image, int]]:
    rng = np.random.default_rng(seed)
    return [(draw(index % 3, rng), index % 3) for index in range(count)]


train, test = drawn(640, 1), drawn(150, 2)
preprocessing = rsseg.Preprocessing(mean=(0.3, 0.3, 0.3), std=(0.25, 0.25, 0.25))
crop = {"area": (0.6, 1.0)}  # of the image; less would cut the shapes off


def loader(sides: list[int]) -> DataLoader:
    """Batches of views at some resolutions, all views of an image from one crop and one flip."""

    def collate(items: list[tuple[Image.Image, int]]) -> tuple[list[torch.Tensor], torch.Tensor]:
        pictures, labels = zip(*items, strict=True)
        views, _ = rsseg.views(pictures, None, sides, augmentation=crop)
        return [preprocessing.normalise(view) for view in views], torch.tensor(labels)

    return DataLoader(train, 32, shuffle=True, drop_last=True, collate_fn=collate)


# %% [markdown]
# ## The network that is there already
#
# An ordinary network, trained at 32 pixels alone; what is left of it is a file with a state dict, as other training
# scripts write it.

# %%
plain = build_classifier(**model)
optimizer = torch.optim.AdamW(plain.parameters(), lr=2e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6 * (len(train) // 32))
for _ in range(6):
    for (views,), labels in loader(resolutions[:1]):
        loss = torch.nn.functional.cross_entropy(plain(views), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
torch.save(plain.state_dict(), folder / "pretrained.pth")

# %% [markdown]
# ## Convert it
#
# `weights` reads the file. The conversion copies each BatchNorm once for each resolution: until it is trained, the
# converted network answers as the old one did.

# %%
net = rsseg.SwitchableNet(
    build_classifier(**model, weights=str(folder / "pretrained.pth")), resolutions
)


@torch.no_grad()
def accuracy(net: rsseg.SwitchableNet) -> dict[int, float]:
    """Share of the test images that are classified rightly, in percent, at each resolution."""
    net.eval()
    shares = {}
    labels = torch.tensor([label for _, label in test])
    for side in net.resolutions:
        views = torch.stack([preprocessing.view(np.asarray(image), side) for image, _ in test])
        right = net.predict(preprocessing.normalise(views)).argmax(dim=1) == labels
        shares[side] = round(100 * right.float().mean().item(), 1)
    return shares


before = accuracy(net)
print(before)

# %% [markdown]
# ## Train it for all resolutions
#
# One forward pass gives the logits of every resolution; the loss teaches each with the labels, and with the ensemble of
# all. The optimiser is made after the conversion, and the ensemble's scores need no weight decay.

# %%
optimizer = torch.optim.AdamW(net.network.parameters(), lr=1e-3)
optimizer.add_param_group({"params": [net.scores], "weight_decay": 0.0})
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4 * (len(train) // 32))
net.train()
for _ in range(4):
    for views, labels in loader(resolutions):
        loss = rsseg.mred_loss(net(views), labels, net.scores).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
after = accuracy(net)

# %% [markdown]
# ## Before and after

# %%
print("pixels  before  after")
for side in resolutions:
    print(f"{side:6}  {before[side]:5} % {after[side]:5} %")
assert after[16] > before[16], "the lowest resolution has gained"

# %% [markdown]
# ## Keep it
#
# The checkpoint is read by every command (`rsseg predict adapted.pt photo.jpg`) and by `rsseg.load_checkpoint`.

# %%
path = folder / "adapted.pt"
rsseg.save_checkpoint(net, path, model=model, classes=classes, preprocessing=preprocessing)
loaded, _, record = rsseg.load_checkpoint(path)
print(record.classes, accuracy(loaded) == after)
