"""Networks: tagged shapes, nodes that join into graphs, losses, the model and its file."""

from .aggregate import AggregateLoss
from .automerge import AutoMerge, UpConvMerge
from .conv import Conv
from .cropping import Crop, Pad
from .distances import EuclideanDistance, RampLoss
from .drawing import draw_graph
from .export import export_onnx, export_program
from .focal import FocalNLL
from .foreign import ApplyFunc, Module
from .fragments import FragmentsToDense
from .freezing import freeze, unfreeze
from .gaussian import GaussianAEVBPrior, GaussianRV
from .initialisation import initweights
from .inputs import GenericInput, Input, Input_like
from .likelihoods import BetaNLL, BinaryNLL, GaussianNLL
from .local_response import LRN
from .lovasz import LovaszLoss
from .malis_loss import MalisNLL
from .merging import Add, Concat, FaithlessMerge, MultMerge
from .metrics import Classification, ClassScores, ConfusionMatrix, Errors
from .model import Model
from .network import Network
from .nll import BlockedMultinoulliNLL, MultinoulliNLL
from .node import Node, NodeDescription
from .overlap import BCEDiceLoss, DiceLoss, TverskyLoss
from .perceptron import Dot, Perceptron
from .pooling import Pool
from .recurrent import GRU, LSTM
from .recurrent_step import RecurrentStep, one_step
from .regression import AbsLoss, SobelizedLoss, SquaredLoss
from .reshaping import Reshape
from .rewriting import rebuild_model
from .scan import Scan, ScanN, ScanOutput, scansplit
from .shape import TaggedShape
from .softmax import OneHot, Softmax
from .split import FromTensor, split
from .stereographic import StereographicMap
from .storage import load_model, save_model
from .surgery import rebuild_decoder, replace_with_input
from .transfer import TransferReport, transfer_params
from .upconv import UpConv
from .value_nodes import InitialState_like, ValueNode
from .variables import Variable

__all__ = [
    "GRU",
    "LRN",
    "LSTM",
    "AbsLoss",
    "Add",
    "AggregateLoss",
    "ApplyFunc",
    "AutoMerge",
    "BCEDiceLoss",
    "BetaNLL",
    "BinaryNLL",
    "BlockedMultinoulliNLL",
    "ClassScores",
    "Classification",
    "Concat",
    "ConfusionMatrix",
    "Conv",
    "Crop",
    "DiceLoss",
    "Dot",
    "Errors",
    "EuclideanDistance",
    "FaithlessMerge",
    "FocalNLL",
    "FragmentsToDense",
    "FromTensor",
    "GaussianAEVBPrior",
    "GaussianNLL",
    "GaussianRV",
    "GenericInput",
    "InitialState_like",
    "Input",
    "Input_like",
    "LovaszLoss",
    "MalisNLL",
    "Model",
    "Module",
    "MultMerge",
    "MultinoulliNLL",
    "Network",
    "Node",
    "NodeDescription",
    "OneHot",
    "Pad",
    "Perceptron",
    "Pool",
    "RampLoss",
    "RecurrentStep",
    "Reshape",
    "Scan",
    "ScanN",
    "ScanOutput",
    "SobelizedLoss",
    "Softmax",
    "SquaredLoss",
    "StereographicMap",
    "TaggedShape",
    "TransferReport",
    "TverskyLoss",
    "UpConv",
    "UpConvMerge",
    "ValueNode",
    "Variable",
    "draw_graph",
    "export_onnx",
    "export_program",
    "freeze",
    "initweights",
    "load_model",
    "one_step",
    "rebuild_decoder",
    "rebuild_model",
    "replace_with_input",
    "save_model",
    "scansplit",
    "split",
    "transfer_params",
    "unfreeze",
]
