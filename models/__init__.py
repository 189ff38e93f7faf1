"""Networks: tagged shapes, nodes that join into graphs, losses, the model and its file."""

from .conv import Conv, UpConv
from .initialisation import initweights
from .inputs import Input, Input_like
from .loss import AggregateLoss, Errors, MultinoulliNLL
from .merging import Add, AutoMerge, Concat, Crop, UpConvMerge
from .model import Model
from .network import Network
from .node import Node, NodeDescription
from .perceptron import Dot, Perceptron
from .pooling import Pool
from .shape import TaggedShape
from .softmax import Softmax
from .storage import load_model, save_model
from .variables import Variable

__all__ = [
    "Add",
    "AggregateLoss",
    "AutoMerge",
    "Concat",
    "Conv",
    "Crop",
    "Dot",
    "Errors",
    "Input",
    "Input_like",
    "Model",
    "MultinoulliNLL",
    "Network",
    "Node",
    "NodeDescription",
    "Perceptron",
    "Pool",
    "Softmax",
    "TaggedShape",
    "UpConv",
    "UpConvMerge",
    "Variable",
    "initweights",
    "load_model",
    "save_model",
]
