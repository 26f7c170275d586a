"""What files that are no models look like, by how they begin."""

from __future__ import annotations

import re

MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89FSR\r\n\x1a\n", "an .fsr file, which fastsr.load opens"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture, not a model"),
    (b"\xff\xd8\xff", "a JPEG picture, not a model"),
    (b"GIF8", "a GIF picture, not a model"),
    (b"BM", "a BMP picture, not a model"),
    (b"RIFF", "a RIFF file (WebP, AVI), not a model"),
    (b"version https://git-lfs", "a git-lfs pointer, not the model itself: run 'git lfs pull' or download the file"),
    (b"PK\x03\x04", "a zip archive without a model that fastsr knows: unpack it and give the model file that is inside"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-zip archive: unpack it first"),
    (b"%PDF", "a PDF document, not a model"),
)


def looks_like(head: bytes) -> str:
    """What a file that starts with `head` probably is, in words; "" when nothing is recognised."""
    if not head:
        return "an empty file (0 bytes): download the model again"
    for magic, what in MAGIC:
        if head.startswith(magic):
            return what
    if head[4:7] == b"TFL" and head[7:8].isdigit():
        return "a TensorFlow Lite model of another version of the format: convert it again"
    if head[4:8] == b"ORTM":
        return "a model in ONNX Runtime's own format (.ort): give the .onnx file that it was made from"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"(?i)<(!doctype|html|head|body|\?xml|script)", text):
        return "an HTML or XML page, not a model: probably a web page was saved in place of the download (use the 'raw' link)"
    if re.match(rb"(node|versions|library)\s*:?\s*\{", text):
        return "a TensorFlow graph in text form (.pbtxt): write it in binary form with tf.io.write_graph(..., as_text=False)"
    if re.match(rb"(layer|name|input)\s*:?\s*[{\"]", text):
        return "a Caffe .prototxt"
    if re.match(rb"\x08\x01\x12", head) and (b"serve" in head or b"MetaGraph" in head or b"\x0a" in head[3:10]):
        return "a TensorFlow SavedModel (saved_model.pb): its weights lie in other files, freeze it to one .pb first"
    if not head.strip(b"\x00"):
        return "a file of zeros: the download was not finished"
    return ""
