from typing import Any

from torch import Tensor as Tensor
from torch.nn import Module as Module

def loaded_torch() -> Any: ...
