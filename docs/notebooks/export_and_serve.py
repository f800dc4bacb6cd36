# %% [markdown]
# # Export a network, predict with it, serve it
#
# From a checkpoint to one ONNX file that switches its resolution by the size of what it is fed; then a `Predictor` in
# Python, and a service that is asked over HTTP. The checkpoint here has random weights, since what counts are the ways
# and the times; put the one of your run in its place.

# %%
import io
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import rsseg
from rsseg.classifiers.build import build_classifier
from rsseg.runtime import Predictor
from rsseg.runtime.onnx.export import export_checkpoint

torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
model = {"name": "mobilenetv2_035", "classes": 4}
net = rsseg.SwitchableNet(build_classifier(**model), [160, 96, 64])
rsseg.save_checkpoint(net, folder / "net.pt", model=model, classes=["ant", "bee", "cat", "dog"])

# %% [markdown]
# ## Export
#
# The same as `rsseg export net.pt --out net.onnx`. The file is run and compared with PyTorch, at trained resolutions and
# others, before it gets its name.

# %%
export = export_checkpoint(folder / "net.pt", folder / "net.onnx")
for difference in export.differences:
    print(difference)
print(f"{export.path.name}: {export.size / 2**20:.1f} MiB")

# %% [markdown]
# ## Predict
#
# A predictor takes images of any size and the resolution of each call. Without one it takes the largest, or the highest
# that keeps a budget in milliseconds, which it measures.

# %%
pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
predictor = Predictor.open(folder / "net.onnx", threads=1)
for side in (160, 128, 96, 64):  # 128 was not trained: its BatchNorm is interpolated
    answer = predictor.predict(pixels, side)
    print(side, answer.top(2), f"{answer.milliseconds:.1f} ms")
quick = predictor.predict(pixels, budget_ms=10)
print(f"within 10 ms: {quick.resolution} pixels, {quick.milliseconds:.1f} ms")

# %% [markdown]
# The checkpoint gives the same answers; ONNX Runtime is faster.

# %%
torch_logits = Predictor.open(folder / "net.pt").predict(pixels, 96).logits
print(np.abs(torch_logits - predictor.predict(pixels, 96).logits).max())

# %% [markdown]
# ## Serve
#
# The same as `rsseg serve net.onnx` in a terminal. It says where it listens; the address is also a page for the browser.

# %%
command = [sys.executable, "-m", "rsseg", "serve", str(folder / "net.onnx"), "--port", "0"]
service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
lines = iter(service.stdout.readline, "")
address = next(line.split()[-1] for line in lines if line.startswith("listening at"))
print(address)

# %%
content = io.BytesIO()
Image.fromarray(pixels).save(content, "png")
kind = {"Content-Type": "image/png"}
request = urllib.request.Request(f"{address}/predict", data=content.getvalue(), headers=kind)
with urllib.request.urlopen(request) as response:
    served = json.load(response)
print(json.dumps(served, indent=1))

# %%
service.terminate()
print("ended with status", service.wait(timeout=60))
