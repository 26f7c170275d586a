// The C interface over the engine: include/fastsr.h says what each function does.
#include <atomic>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>
#if defined(_WIN32)
#include <filesystem>
#endif

#include "base/error.h"
#include "base/threads.h"
#include "engine/arrays.h"
#include "engine/picture.h"
#include "engine/run.h"
#include "include/fastsr.h"
#include "targets/cpu.h"

struct fastsr_model {
  fastsr::Model model;
};

namespace {

using namespace fastsr;

struct LastError {
  char text[1024] = "";
};
thread_local LastError last_error;

std::atomic<Precision> precision{Precision::kAuto};  // of models opened from now on

int failed(int code, const char* text) {
  std::snprintf(last_error.text, sizeof last_error.text, "%s", text);
  return code;
}

// Nothing is ever thrown into C.
template <class Work>
int guarded(Work&& work) {
  try {
    work();
    return FASTSR_OK;
  } catch (const Error& e) {
    return failed(static_cast<int>(e.kind), e.what());
  } catch (const std::bad_alloc&) {
    return failed(FASTSR_ERROR_MEMORY, "not enough memory");
  } catch (const std::exception& e) {
    return failed(FASTSR_ERROR_ARGUMENT, e.what());
  } catch (...) {
    return failed(FASTSR_ERROR_ARGUMENT, "unknown error");
  }
}

void need(bool condition, const char* what) {
  if (!condition) throw Error(ErrorKind::kArgument, what);
}

RunOptions options_of(fastsr_progress progress, void* user) {
  RunOptions options;
  if (progress) options.progress = [=](int64_t done, int64_t total) { return progress(user, done, total) == 0; };
  return options;
}

const OutputInfo& output_of(const fastsr_model* model, int32_t output) {
  const auto& outputs = model->model.plan().program.outputs;
  need(output >= 0 && static_cast<size_t>(output) < outputs.size(), "the network has no such output");
  return outputs[static_cast<size_t>(output)];
}

int channels_of(const fastsr_model* model, int value) { return model->model.plan().program.values[static_cast<size_t>(value)].channels; }

// In the limit of big pictures; 2880 has many divisors. 0 where the network does not take such pictures.
double scale_of(const fastsr_model* model) {
  try {
    return model->model.plan().program.feed.pre_scale * (model->model.output_size(0, 5760, 5760).h - model->model.output_size(0, 2880, 2880).h) / 2880.0;
  } catch (const Error&) {
    return 0;
  }
}

fastsr_model* opened(const FsrBytes& file) {
  PlanOptions options;
  options.precision = precision.load();
  return new fastsr_model{Model(file, options)};
}

std::FILE* open_to_read(const char* path) {
#if defined(_WIN32)
  return _wfopen(std::filesystem::u8path(path).c_str(), L"rb");
#else
  return std::fopen(path, "rb");
#endif
}

}  // namespace

extern "C" {

const char* fastsr_version(int32_t* abi) {
  if (abi) *abi = FASTSR_ABI_VERSION;
  return FASTSR_VERSION_STRING;
}

const char* fastsr_last_error(void) { return last_error.text; }

int fastsr_open_memory(const void* data, size_t bytes, fastsr_model** model) {
  return guarded([&] {
    need(model, "the place for the model is null");
    *model = nullptr;
    need(data || bytes == 0, "the data is null");
    *model = opened({data, bytes});
  });
}

int fastsr_open_file(const char* path, fastsr_model** model) {
  const auto data = std::make_shared<std::vector<char>>();
  try {
    if (!path || !model) return failed(FASTSR_ERROR_ARGUMENT, "the path or the place for the model is null");
    *model = nullptr;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(open_to_read(path), std::fclose);
    if (!file) return failed(FASTSR_ERROR_FILE, (std::string(path) + ": cannot be opened").c_str());
    // At once where the size is known; of a folder the system may tell any.
    const long size = std::fseek(file.get(), 0, SEEK_END) == 0 ? std::ftell(file.get()) : 0;
    if (size > 0 && size < 0x7FFFFFFF) data->reserve(static_cast<size_t>(size));
    std::rewind(file.get());
    char block[1 << 16];
    for (size_t n; (n = std::fread(block, 1, sizeof block, file.get())) > 0;) data->insert(data->end(), block, block + n);
    if (std::ferror(file.get())) return failed(FASTSR_ERROR_FILE, (std::string(path) + ": cannot be read").c_str());
  } catch (const std::bad_alloc&) {
    return failed(FASTSR_ERROR_MEMORY, "not enough memory");
  } catch (const std::exception& e) {
    return failed(FASTSR_ERROR_FILE, e.what());
  }
  return guarded([&] { *model = opened({data->data(), data->size(), data}); });
}

void fastsr_close(fastsr_model* model) { delete model; }

int fastsr_get_info(const fastsr_model* model, fastsr_info* info) {
  return guarded([&] {
    need(model && info, "the model or the place for the answer is null");
    const Plan& plan = model->model.plan();
    const Program& p = plan.program;
    info->in_channels = channels_of(model, p.inputs[0]);
    info->out_channels = channels_of(model, p.outputs[0].value);
    info->n_inputs = static_cast<int32_t>(p.inputs.size());
    info->n_outputs = static_cast<int32_t>(p.outputs.size());
    info->colour = static_cast<int32_t>(p.feed.colour);
    info->pre_scale = p.feed.pre_scale;
    info->scale = scale_of(model);
    info->isa = plan.kernels->isa;
  });
}

int fastsr_output_size(const fastsr_model* model, int32_t output, int32_t height, int32_t width, int32_t* out_height, int32_t* out_width) {
  return guarded([&] {
    need(model && out_height && out_width, "the model or the place for the answer is null");
    output_of(model, output);
    const int s = model->model.plan().program.feed.pre_scale;
    need(height > 0 && width > 0 && height <= kMaxExtent / s && width <= kMaxExtent / s, "the size is out of range");
    const Size size = model->model.output_size(output, height * s, width * s);
    *out_height = size.h, *out_width = size.w;
  });
}

int fastsr_run(const fastsr_model* model, int32_t output, const float* in, int32_t height, int32_t width, float* out, fastsr_progress progress, void* user) {
  return guarded([&] {
    need(model && in && out, "the model or a picture is null");
    need(height > 0 && width > 0, "the size is out of range");
    const int c_out = channels_of(model, output_of(model, output).value), c_in = channels_of(model, model->model.plan().program.inputs[0]);
    const Size size = model->model.output_size(output, height, width);
    const ArraySource source(in, c_in, height, width, ptrdiff_t{height} * width, width);
    ArraySink sink(out, c_out, ptrdiff_t{size.h} * size.w, size.w);
    model->model.run({&source}, {output}, {&sink}, options_of(progress, user));
  });
}

int fastsr_upscale(const fastsr_model* model, const uint8_t* in, int32_t height, int32_t width, int32_t channels, ptrdiff_t in_stride, uint8_t* out,
                   ptrdiff_t out_stride, fastsr_progress progress, void* user) {
  return guarded([&] {
    need(model && in && out, "the model or a picture is null");
    need(height > 0 && width > 0, "the size is out of range");
    if (channels != 1 && channels != 3) throw Error(ErrorKind::kPicture, "a picture has 1 channel (grey) or 3 (BGR)");
    const Program& p = model->model.plan().program;
    if (p.feed.colour == Colour::kRaw || p.inputs.size() != 1)
      throw Error(ErrorKind::kPicture, "this network does not say how pictures are fed to it: use fastsr_run");
    PictureView from;
    from.data = const_cast<uint8_t*>(in);
    from.height = height, from.width = width, from.channels = channels;
    from.row_bytes = in_stride, from.pixel_bytes = channels, from.channel_bytes = 1;
    const char* isa = model->model.plan().kernels->isa;
    const std::unique_ptr<Source> source = make_picture_source(from, p.feed, isa);
    const Size size = model->model.output_size(0, source->height(), source->width());
    const ptrdiff_t line = ptrdiff_t{size.w} * channels;
    need(size.h == 1 || out_stride >= line || out_stride <= -line, "the lines of the result overlap: out_stride is smaller than a line");
    PictureView to = from;
    to.data = out;
    to.height = size.h, to.width = size.w;
    to.row_bytes = out_stride;
    const std::unique_ptr<Sink> sink = make_picture_sink(to, from, p.feed, isa);
    model->model.run({source.get()}, {0}, {sink.get()}, options_of(progress, user));
  });
}

int fastsr_set_threads(int32_t n) {
  return guarded([&] {
    need(n >= 0 && n <= kMaxThreads, "the number of threads must be 0 to 256");
    set_num_threads(n);
  });
}

int fastsr_set_isa(const char* name) {
  return guarded([&] { set_isa(name); });
}

int fastsr_set_precision(const char* name) {
  return guarded([&] {
    const std::string wanted = name ? name : "";
    if (!wanted.empty() && wanted != "f32" && wanted != "fast" && wanted != "int8") throw Error(ErrorKind::kBackend, "unknown precision '" + wanted + "': use f32, fast or int8");
    precision = wanted.empty() ? Precision::kAuto : wanted == "fast" ? Precision::kFast : wanted == "int8" ? Precision::kInt8 : Precision::kF32;
  });
}

}  // extern "C"
