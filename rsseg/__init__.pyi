"""The public names and their types; `__init__.py` imports each when it is first used."""

from rsseg.batch_views import views as views
from rsseg.classifiers.published import load_published as load_published
from rsseg.hub import HubNet as HubNet
from rsseg.images.preprocessing import Preprocessing as Preprocessing
from rsseg.load import load_checkpoint as load_checkpoint
from rsseg.losses.mred import MREDLosses as MREDLosses
from rsseg.losses.mred import ensemble_logits as ensemble_logits
from rsseg.losses.mred import mred_loss as mred_loss
from rsseg.losses.pixelwise import pixelwise_mred_loss as pixelwise_mred_loss
from rsseg.save import save_checkpoint as save_checkpoint
from rsseg.switchable.complexity import count_macs as count_macs
from rsseg.switchable.convert import convert_to_switchable as convert_to_switchable
from rsseg.switchable.convert import specialize as specialize
from rsseg.switchable.convert import switch as switch
from rsseg.switchable.layers import SwitchableBatchNorm2d as SwitchableBatchNorm2d
from rsseg.switchable.net import SwitchableNet as SwitchableNet
from rsseg.switchable.unseen import interpolate_set as interpolate_set
from rsseg.switchable.unseen import recalibrate as recalibrate

__version__: str
__all__: list[str]
