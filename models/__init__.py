"""Networks: tagged shapes, nodes that join into graphs, losses, the model and its file."""

from .aggregate import AggregateLoss
from .conv import Conv
from .fragments import FragmentsToDense
from .initialisation import initweights
from .inputs import Input, Input_like
from .merging import Add, AutoMerge, Concat, Crop, UpConvMerge
from .metrics import Errors
from .model import Model
from .network import Network
from .nll import MultinoulliNLL
from .node import Node, NodeDescription
from .perceptron import Dot, Perceptron
from .pooling import Pool
from .recurrent import GRU, LSTM
from .shape import TaggedShape
from .softmax import Softmax
from .split import FromTensor, split
from .storage import load_model, save_model
from .upconv import UpConv
from .variables import Variable

__all__ = [
    "GRU",
    "LSTM",
    "Add",
    "AggregateLoss",
    "AutoMerge",
    "Concat",
    "Conv",
    "Crop",
    "Dot",
    "Errors",
    "FragmentsToDense",
    "FromTensor",
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
    "split",
]
