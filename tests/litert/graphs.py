"""Small .tflite files, made of composites."""

import flatbuffers
import flatbuffers.flexbuffers
from ai_edge_litert import schema_py_generated as schema


class Graph:
    """A subgraph that grows tensor by tensor."""

    def __init__(self, model, name):
        self.model = model
        self.graph = schema.SubGraphT()
        self.graph.name = name
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        model.subgraphs.append(self.graph)

    def tensor(self, shape, name, kind=schema.TensorType.FLOAT32, data=None):
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), kind, name
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = list(data.tobytes())
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, code, inputs, outputs, options2=None):
        operator = schema.OperatorT()
        operator.opcodeIndex = operator_code(self.model, code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options2 is not None:
            operator.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
            operator.builtinOptions2 = options2
        self.graph.operators.append(operator)


def operator_code(model, builtin):
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = builtin, 1
    code.deprecatedBuiltinCode = min(builtin, 127)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def new_model():
    model = schema.ModelT()
    model.version, model.description = 3, "test"
    model.subgraphs, model.operatorCodes, model.signatureDefs = [], [], []
    model.buffers = [schema.BufferT()]
    return model


def pack(model):
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def composite(name, attributes, inputs, output, kind=schema.TensorType.FLOAT32):
    """The bytes of a model that is one composite: inputs are shapes, output one of them.

    Its decomposition, which LiteRT runs where nobody takes the composite, is a graph that adds its first
    input to itself: it has the right shape, and wrong numbers.
    """
    model = new_model()
    main = Graph(model, "main")
    indices = [main.tensor(shape, f"input_{i}", kind) for i, shape in enumerate(inputs)]
    result = main.tensor(output, "output", kind)
    options = schema.StableHLOCompositeOptionsT()
    options.name, options.decompositionSubgraphIndex, options.version = name, 1, 1
    if attributes is not None:
        options.compositeAttributes = list(flatbuffers.flexbuffers.Dumps(attributes))
    main.operator(schema.BuiltinOperator.STABLEHLO_COMPOSITE, indices, [result], options)
    main.graph.inputs, main.graph.outputs = indices, [result]

    inner = Graph(model, "decomposition")
    arguments = [inner.tensor(shape, f"argument_{i}", kind) for i, shape in enumerate(inputs)]
    total = inner.tensor(output, "sum", kind)
    inner.operator(schema.BuiltinOperator.ADD, [arguments[0], arguments[0]], [total])
    inner.graph.inputs, inner.graph.outputs = arguments, [total]
    return pack(model)
