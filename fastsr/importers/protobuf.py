"""Protobuf messages without generated code: classes built at run time from a short description, in a descriptor pool of their own.

So nothing is generated, and a loaded TensorFlow or onnx package does not clash.
"""

from __future__ import annotations

from typing import Any

from ..errors import ModelError


def message_classes(package: str, messages: dict[str, str], one_of: tuple[str, ...] = ()) -> dict[str, Any]:
    """Message name -> class. Imports protobuf.

    messages: message -> fields as name:number:type, "*" before the type for repeated.
    one_of: messages of which one field at a time is set.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"fastsr/{package}.proto", package=f"fastsr.{package}", syntax="proto2")
    for message, fields in messages.items():
        m = file.message_type.add(name=message)
        if message in one_of:
            m.oneof_decl.add(name="value")
        for text in fields.split():
            name, number, kind = text.split(":")
            repeated, kind = kind.startswith("*"), kind.lstrip("*")
            f = m.field.add(name=name, number=int(number), label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL)
            if message in one_of:
                f.oneof_index = 0
            if kind in messages:
                f.type, f.type_name = field.TYPE_MESSAGE, f".fastsr.{package}.{kind}"
            else:
                f.type = getattr(field, f"TYPE_{kind.upper()}")
                if repeated and kind != "bytes":
                    f.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    descriptors = {name: pool.FindMessageTypeByName(f"fastsr.{package}.{name}") for name in messages}
    get = getattr(message_factory, "GetMessageClass", None)
    if get is None:
        factory = message_factory.MessageFactory(pool)
        get = factory.GetPrototype
    return {name: get(d) for name, d in descriptors.items()}


def parse(message: Any, data: bytes, what: str) -> Any:
    """The bytes as a message of that class. Raises ModelError, which says that they are no `what`, when they are not one."""
    from google.protobuf.message import DecodeError

    parsed = message()
    try:
        parsed.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError, TypeError, IndexError, OverflowError, MemoryError) as e:
        article = "an" if what[:1] in "AEIOU" else "a"
        raise ModelError(f"not {article} {what}, or damaged or cut short (its protobuf structure does not parse): download it again") from e
    return parsed
