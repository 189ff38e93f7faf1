"""Networks: tagged shapes, nodes that join into graphs, losses, the model and its file."""

from .aggregate import AggregateLoss
from .conv import Conv
from .focal import FocalNLL
from .fragments import FragmentsToDense
from .initialisation import initweights
from .inputs import Input, Input_like
from .merging import Add, AutoMerge, Concat, Crop, UpConvMerge
from .metrics import Classification, ClassScores, ConfusionMatrix, Errors
from .model import Model
from .network import Network
from .nll import BlockedMultinoulliNLL, MultinoulliNLL
from .node import Node, NodeDescription
from .perceptron import Dot, Perceptron
from .pooling import Pool
from .recurrent import GRU, LSTM
from .shape import TaggedShape
from .softmax import OneHot, Softmax
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
    "BlockedMultinoulliNLL",
    "ClassScores",
    "Classification",
    "Concat",
    "ConfusionMatrix",
    "Conv",
    "Crop",
    "Dot",
    "Errors",
    "FocalNLL",
    "FragmentsToDense",
    "FromTensor",
    "Input",
    "Input_like",
    "Model",
    "MultinoulliNLL",
    "Network",
    "Node",
    "NodeDescription",
    "OneHot",
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
