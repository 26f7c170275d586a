// Reads .fsr files (docs/fsr.md), trusting nothing in them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/program.h"

namespace fastsr {

// As fastsr/program.py: numbers beyond these no network needs.
constexpr int kLimit = 4096;    // kernels, strides, dilations, pads, scales
constexpr int kMaxChannels = 65536;
constexpr int kMaxBlock = 256;  // of pixel shuffles: more would need more channels than there can be

uint32_t crc32(const void* data, size_t bytes);

// Where an .fsr file lies.
struct FsrBytes {
  const void* data = nullptr;
  size_t bytes = 0;
  // Keeps the bytes; the program reads the weights of convolutions there then. Null: it has copies of them.
  std::shared_ptr<const void> owner = nullptr;
  // Not null: `data` is the file as far as its tensors, without a checksum, and here are all of these, as floats. The program reads the weights of
  // convolutions there, so they must outlive it.
  const std::vector<Numbers>* tensors = nullptr;
};

// The program in a file. The memory it takes is at most a small multiple of the file's. Throws Error(kModel), saying what is wrong and where.
Program read_fsr(const FsrBytes& file);

}  // namespace fastsr
