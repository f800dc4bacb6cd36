# %% [markdown]
# # Train on images of your own
#
# From a folder of images and label maps to a network that switches, without writing a reader: `datasets.init` looks at
# the folder, `datasets.check` at every file, `train_seg.py` trains. The images here are drawn, so that the notebook runs
# anywhere in a few minutes; put your folder in their place. Run it from a checkout of the project.

# %%
import tempfile
from pathlib import Path

import numpy as np
from IPython.display import display
from PIL import Image, ImageDraw

import train_seg
from datasets.check import main as check
from datasets.init.__main__ import main as init
from rsseg.cli.main import main as rsseg

folder = Path(tempfile.mkdtemp())
data = folder / "shapes"
data.mkdir()

# %% [markdown]
# ## A folder as people have it
#
# Photos `NAME.jpg` and label maps `NAME_mask.png` side by side, and no split. The label maps hold 0 for the ground, 1 for
# discs and 2 for boxes, and 255 along the edges, where nobody was sure.

# %%
draw = np.random.default_rng(0)


def sample(side=96):
    """Draw an image and its label map."""
    labels = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(labels)
    for value in (1, 2):
        x, y, size = (int(v) for v in draw.integers((4, 4, 24), (44, 44, 44)))
        shape = pen.ellipse if value == 1 else pen.rectangle
        shape((x, y, x + size, y + size), fill=value, outline=255, width=2)
    values = np.asarray(labels)
    colours = np.array([[90, 110, 90], [190, 90, 60], [70, 90, 180]])
    image = colours[np.where(values == 255, 0, values)] + draw.normal(0, 25, (side, side, 3))
    return image.clip(0, 255).astype(np.uint8), values


for index in range(60):
    image, values = sample()
    Image.fromarray(image).save(data / f"{index:03d}.jpg")
    Image.fromarray(values).save(data / f"{index:03d}_mask.png")

# %% [markdown]
# ## What is it?
#
# On the command line: `python -m datasets.init shapes --out my.yaml --classes 3`. It writes a configuration and a contact
# sheet. For three classes, 255 beside 0, 1, 2 can mean one thing only, so nothing is asked here; without `--classes`, 0
# might be void as well, and that would be a question in the file.

# %%
assert init([str(data), "--out", str(folder / "my.yaml"), "--classes", "3"]) == 0
print((folder / "my.yaml").read_text())
display(Image.open(folder / "my.png"))

# %% [markdown]
# ## Is every file sound?
#
# `python -m datasets.check my.yaml` reads each image and label map once, and counts.

# %%
assert check([str(folder / "my.yaml")]) == 0

# %% [markdown]
# ## Train
#
# `python train_seg.py my.yaml`. The settings beside the file make this run small; with a network on the index, keep
# `model.encoder_weights`: pretrained weights are what makes few images enough.

# %%
small = [
    "model.encoder_weights=null",
    "model.encoder_name=resnet18",
    "model.architecture=unet",
    "model.decoder_channels=32",
    "resolutions=[64,48,32]",
    "augmentation={scale: [0.7, 1.4], shorter_side: 64, crop: 64}",
    "optim={kind: adamw, lr: 2.0e-3}",
    "epochs=60",
    "evaluate_every=60",
    "workers=0",
    "device=cpu",
]
assert train_seg.main([str(folder / "my.yaml"), "--run", str(folder / "run"), "--set", *small]) == 0

# %% [markdown]
# ## Look at it
#
# `rsseg predict run/last.pt 000.jpg --labels shapes/*_mask.png`: the checkpoint knows how the label maps are read.

# %%
photos = [str(data / f"{index:03d}.jpg") for index in (0, 1, 2)]
truth = ["--labels", str(data / "*_mask.png")]
out = ["--out", str(folder / "pictures"), "--name", "shapes"]
assert rsseg(["predict", str(folder / "run" / "last.pt"), *photos, *truth, *out]) == 0
display(Image.open(folder / "pictures" / "fig8.png"))
