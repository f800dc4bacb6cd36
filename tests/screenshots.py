"""Take the pictures of the pages that docs/ shows.

    python -m tests.screenshots runs/rsnet/last.pt --out docs

serve.png: the page of the service with two resolutions side by side; serve_phone.png: the same on
a phone; web.png: the page of `rsseg export --web`. The network is a segmenter with results.json
beside it; the machine should be idle, as the pictures show milliseconds.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from io import BytesIO
from pathlib import Path

from PIL import Image as Pictures

from rsseg.runtime.onnx.export import export_checkpoint
from rsseg.runtime.serve.server import Options, open_service
from rsseg.runtime.web.export import export_web
from tests.helpers.browser import DESKTOP, PHONE, chromium, compared, opened_page, sync
from tests.helpers.file_server import served
from tests.helpers.small_service import serving

SWEEPS = 3  # of all resolutions: the page shows medians


def shown(page: sync.Page, address: str, image: Path | None, second: int | None) -> None:
    """Open a page, choose an image, measure every resolution, and compare two."""
    page.goto(address)
    sync.expect(page.locator("#about")).to_contain_text("trained at")
    if image is None:
        page.get_by_role("button", name="Sample").click()
    else:
        page.get_by_label("Choose an image").set_input_files(image)
    sync.expect(page.locator("#spoken")).to_contain_text("pixels")
    for _ in range(SWEEPS):
        page.get_by_role("button", name="Measure all").click()
        sync.expect(page.get_by_role("button", name="Measure all")).to_be_enabled()
    if second is not None:
        compared(page, second)
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")


def save(page: sync.Page, path: Path, *, whole: bool) -> None:
    """Save the window, or the whole page, as a PNG of 6 bits a channel, which is smaller."""
    picture = Pictures.open(BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    picture.point(lambda value: value & 252 | value >> 6).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", type=Path, help="checkpoint of a segmenter")
    parser.add_argument("--image", type=Path, help="default: the sample of the page")
    parser.add_argument(
        "--second", type=int, help="resolution to compare with; default: the lowest"
    )
    parser.add_argument("--runtime-files", type=Path, help="see `rsseg export --web`")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    args = parser.parse_args()
    service = open_service(args.network, Options(threads=1, budget_ms=1e5))
    second = args.second or service.predictor.resolutions[-1]
    complaints: list[str] = []
    with chromium() as browser:
        with serving(service) as address:
            for name, size in (("serve", DESKTOP), ("serve_phone", PHONE)):
                with opened_page(browser, complaints, size) as page:
                    shown(page, address, args.image, second)
                    save(page, args.out / f"{name}.png", whole=size == DESKTOP)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "web"
            write = partial(export_checkpoint, tolerance=1e-3)
            export_web(args.network, folder, write=write, runtime_folder=args.runtime_files)
            with served(folder) as address, opened_page(browser, complaints, DESKTOP) as page:
                shown(page, address, args.image, None)
                save(page, args.out / "web.png", whole=True)


if __name__ == "__main__":
    main()
