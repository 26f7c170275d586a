// The Python module fastsr._core: this folder alone sees pybind11. Types and meaning: fastsr/_core.pyi.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <numeric>
#include <optional>

#include "targets/cpu.h"
#include "base/error.h"
#include "base/threads.h"
#include "engine/arrays.h"
#include "engine/picture.h"
#include "engine/run.h"
#include "python/progress.h"

namespace py = pybind11;
using namespace fastsr;

namespace {

using FloatArray = py::array_t<float, py::array::c_style>;
using AnyFloatArray = py::array_t<float, 0>;  // of any strides

int to_int(py::ssize_t n) {
  if (n > kMaxExtent) throw Error(ErrorKind::kPicture, "a picture of " + std::to_string(n) + " pixels along one side is too large");
  return static_cast<int>(n);
}

const char* const kAlgorithms[] = {"direct", "winograd", "winograd2d", "winograd6x6", "winograd16", "winograd16x6x4", "winograd16x6", "conv16", "conv16rows", "conv8"};

// algorithm: for all convolutions that it can compute; "" for the fastest of each.
PlanOptions plan_options(const std::string& precision, const std::string& algorithm) {
  static constexpr Algorithm all[] = {Algorithm::kDirect, Algorithm::kWinograd, Algorithm::kWinograd2d, Algorithm::kWinograd6x6, Algorithm::kWinograd16,
                                      Algorithm::kWinograd16x6x4, Algorithm::kWinograd16x6, Algorithm::kConv16, Algorithm::kConv16Rows};
  PlanOptions options;
  if (precision == "fast") options.precision = Precision::kFast;
  else if (precision == "int8") options.precision = Precision::kInt8;
  else if (precision != "f32") throw Error(ErrorKind::kArgument, "unknown precision '" + precision + "': use f32, fast or int8");
  for (size_t i = 0; i < std::size(all); ++i)
    if (algorithm == kAlgorithms[i]) options.algorithm = &all[i];
  if (!options.algorithm && !algorithm.empty()) throw Error(ErrorKind::kArgument, "unknown algorithm '" + algorithm + "'");
  return options;
}

// The array's numbers where they lie, or a copy where they are not aligned.
Numbers numbers_of(const FloatArray& a) {
  const auto n = static_cast<size_t>(a.size());
  if (reinterpret_cast<uintptr_t>(a.data()) % alignof(float) == 0) return Numbers(a.data(), n, nullptr);
  std::vector<float> copy(n);
  if (n) std::memcpy(copy.data(), a.data(), n * sizeof(float));
  return Numbers(std::move(copy));
}

class PyModel {
 public:
  PyModel(const FsrBytes& fsr, int threads, int tile, const PlanOptions& plan) : model_(fsr, plan) {
    options_.threads = threads;
    options_.tile = tile;
  }

  // What the weights lie in as long as they are not packed.
  void keep(const std::vector<FloatArray>& tensors) { tensors_ = tensors; }

  // into: arrays for the results, of their shapes; none for new ones.
  py::list run(const std::vector<AnyFloatArray>& inputs, const std::vector<int>& outputs, const py::object& progress, int threads, int chunk, int team,
               const py::sequence& into = py::list(), std::vector<StepTime>* times = nullptr) const {
    if (inputs.empty()) throw Error(ErrorKind::kPicture, "no input array was given");
    const py::ssize_t n = inputs[0].ndim() == 4 ? inputs[0].shape(0) : 0;
    for (const AnyFloatArray& a : inputs)
      if (a.ndim() != 4 || a.shape(0) != n || a.size() == 0)
        throw Error(ErrorKind::kPicture, "each input must be a float32 array of shape (N, C, H, W), the same N for all, none of them 0");
    for (const AnyFloatArray& a : inputs)
      for (py::ssize_t i = 0; i < 4; ++i)
        if (a.strides(i) % static_cast<py::ssize_t>(sizeof(float))) throw Error(ErrorKind::kPicture, "an input's strides are no multiples of 4 bytes: copy it");
    const int h = to_int(inputs[0].shape(2)), w = to_int(inputs[0].shape(3));
    const Program& program = model_.plan().program;
    if (into.size() != 0 && into.size() != outputs.size()) throw Error(ErrorKind::kArgument, "not as many arrays for the results as outputs");
    std::vector<FloatArray> results;
    for (int o : outputs) {
      if (o < 0 || static_cast<size_t>(o) >= program.outputs.size()) throw Error(ErrorKind::kArgument, "the network has no output number " + std::to_string(o));
      const Size size = model_.output_size(o, h, w);
      const int c = program.values[static_cast<size_t>(program.outputs[static_cast<size_t>(o)].value)].channels;
      const std::vector<py::ssize_t> shape{n, c, size.h, size.w};
      if (into.size() == 0) {
        results.emplace_back(shape);
        continue;
      }
      const py::object given = into[results.size()];
      if (!py::isinstance<FloatArray>(given)) throw Error(ErrorKind::kArgument, "a result needs a contiguous float32 array");
      results.push_back(py::reinterpret_borrow<FloatArray>(given));
      if (!results.back().writeable() || results.back().ndim() != 4 || !std::equal(shape.begin(), shape.end(), results.back().shape()))
        throw Error(ErrorKind::kArgument, "an array for a result has another shape or cannot be written");
    }
    Progress poll(progress, n);
    guarded(poll, threads, chunk, team, [&](const RunOptions& options) {
      for (py::ssize_t i = 0; i < n; ++i, ++poll.round) {
        std::vector<ArraySource> sources;
        std::vector<ArraySink> sinks;
        for (const AnyFloatArray& a : inputs) {
          constexpr py::ssize_t each = sizeof(float);
          sources.emplace_back(a.data(i), to_int(a.shape(1)), to_int(a.shape(2)), to_int(a.shape(3)), a.strides(1) / each, a.strides(2) / each, a.strides(3) / each);
        }
        for (FloatArray& a : results) {
          const py::ssize_t line = a.shape(3), channel = a.shape(2) * line;
          sinks.emplace_back(const_cast<float*>(a.data()) + i * a.shape(1) * channel, to_int(a.shape(1)), channel, line);
        }
        std::vector<const Source*> from;
        std::vector<Sink*> to;
        for (const ArraySource& s : sources) from.push_back(&s);
        for (ArraySink& s : sinks) to.push_back(&s);
        RunOptions timed = options;
        timed.times = times;
        model_.run(from, outputs, to, timed);
      }
    });
    py::list list;
    for (FloatArray& r : results) list.append(std::move(r));
    return list;
  }

  // A picture and the place for what becomes of it.
  struct Upscaling {
    py::array picture, result;
    std::unique_ptr<Source> source;
    std::unique_ptr<Sink> sink;
  };

  Upscaling begin(const py::array& picture, double white, bool to_u8) const {
    const Program& program = model_.plan().program;
    if (program.feed.colour == Colour::kRaw || program.inputs.size() != 1)
      throw Error(ErrorKind::kPicture, "this network does not say how pictures are fed to it: run it with arrays");
    const bool grey = picture.ndim() == 2;
    if ((!grey && (picture.ndim() != 3 || picture.shape(2) != 3)) || picture.size() == 0)
      throw Error(ErrorKind::kPicture, "a picture has the shape (H, W) or (H, W, 3), none of them 0");
    PictureView in = view_of(picture);
    in.white = white;
    const char* isa = model_.plan().kernels->isa;
    std::unique_ptr<Source> source = make_picture_source(in, program.feed, isa);
    const Size size = model_.output_size(0, source->height(), source->width());
    std::vector<py::ssize_t> shape{size.h, size.w};
    if (!grey) shape.push_back(3);
    py::array result(to_u8 ? py::dtype::of<uint8_t>() : picture.dtype(), shape);
    PictureView out = view_of(result);
    out.white = white;
    std::unique_ptr<Sink> sink = make_picture_sink(out, in, program.feed, isa);
    return {picture, std::move(result), std::move(source), std::move(sink)};
  }

  // Without the GIL.
  void run(const Upscaling& upscaling, const RunOptions& options) const { model_.run({upscaling.source.get()}, {0}, {upscaling.sink.get()}, options); }

  double flops(int height, int width) const { return model_.flops(0, height, width); }

  // What the first run would do.
  void pack(int threads) const {
    if (model_.packed()) return;
    Progress poll(py::none(), 1);
    guarded(poll, threads, 0, -1, [&](const RunOptions& options) { model_.pack(options); });
  }

  const RunOptions& options() const { return options_; }

  py::array upscale(const py::array& picture, const py::object& progress, double white, bool to_u8, int threads) const {
    Upscaling upscaling = begin(picture, white, to_u8);
    Progress poll(progress, 1);
    guarded(poll, threads, 0, -1, [&](const RunOptions& options) { run(upscaling, options); });
    return std::move(upscaling.result);
  }

  // Of each step: seconds of processor time, and the operations it would take as a direct convolution.
  std::vector<std::pair<double, double>> profile(const std::vector<AnyFloatArray>& inputs, int threads) const {
    std::vector<int> outputs(model_.plan().program.outputs.size());
    std::iota(outputs.begin(), outputs.end(), 0);
    std::vector<StepTime> times;
    run(inputs, outputs, py::none(), threads, 0, -1, py::list(), &times);
    std::vector<std::pair<double, double>> list;
    for (size_t s = 0; s < model_.plan().steps.size(); ++s) list.emplace_back(times[s].seconds, times[s].pixels * model_.plan().steps[s].flops_per_pixel);
    return list;
  }

  // Of each step: what computes it.
  std::vector<std::string> kernels() const {
    std::vector<std::string> names;
    const Plan& plan = model_.plan();
    for (size_t s = 0; s < plan.steps.size(); ++s)
      names.push_back(plan.program.steps[s].kind == Kind::kConv ? kAlgorithms[static_cast<size_t>(plan.steps[s].algorithm)] : kind_name(plan.program.steps[s].kind));
    return names;
  }

  std::string describe(int threads) const {
    const int t = threads > 0 ? threads : options_.threads > 0 ? options_.threads : get_num_threads();
    return std::string("C++ core, ") + model_.plan().kernels->isa + ", " + std::to_string(t) + (t == 1 ? " thread, " : " threads, ") +
           (options_.tile > 0 ? "tiles of " + std::to_string(options_.tile) : "tiles chosen by picture");
  }

  Model::Cost cost(int height, int width, int threads) const {
    if (height < 1 || width < 1) throw Error(ErrorKind::kArgument, "the size is out of range");
    return model_.cost(height, width, options_.tile, std::clamp(threads > 0 ? threads : get_num_threads(), 1, kMaxThreads));
  }

  double working_bytes(int height, int width, int threads) const { return cost(height, width, threads).bytes; }

  py::dict working_memory(int height, int width, int threads) const {
    const Model::Cost c = cost(height, width, threads);
    py::dict parts;
    parts["bytes"] = static_cast<int64_t>(c.bytes);
    parts["working_threads"] = c.threads;
    parts["rings_bytes"] = static_cast<int64_t>(c.rings);
    parts["scratch_bytes_per_thread"] = static_cast<int64_t>(c.scratch);
    parts["scratch_bytes"] = static_cast<int64_t>(c.scratch * c.threads);
    parts["weights_bytes"] = static_cast<int64_t>(model_.plan().weights.bytes());
    return parts;
  }

  std::string isa() const { return model_.plan().kernels->isa; }

 private:
  static std::string_view view(const py::bytes& b) { return static_cast<std::string_view>(b); }

  static PictureView view_of(const py::array& a) {
    PictureView v;
    v.data = const_cast<void*>(a.data());
    v.height = to_int(a.shape(0)), v.width = to_int(a.shape(1));
    v.channels = a.ndim() == 3 ? to_int(a.shape(2)) : 1;
    v.row_bytes = a.strides(0), v.pixel_bytes = a.strides(1), v.channel_bytes = a.ndim() == 3 ? a.strides(2) : a.itemsize();
    const py::dtype type = a.dtype();
    const bool native = type.byteorder() == '=' || type.byteorder() == '|';
    if (type.kind() == 'u' && type.itemsize() == 1) v.type = PictureView::kU8;
    else if (type.kind() == 'u' && type.itemsize() == 2 && native) v.type = PictureView::kU16;
    else if (type.kind() == 'f' && type.itemsize() == 4 && native) v.type = PictureView::kF32;
    else throw Error(ErrorKind::kPicture, "a picture is uint8, uint16 or float32 in this machine's byte order, not " + py::str(type).cast<std::string>());
    return v;
  }

  template <class Work>
  void guarded(Progress& poll, int threads, int chunk, int team, Work&& work) const {
    RunOptions options = options_;
    if (threads > 0) options.threads = threads;
    options.chunk = chunk;
    options.teams = static_cast<Teams>(team);
    try {
      WithoutGil gil;
      options.progress = [&](int64_t done, int64_t total) { return poll(done, total, gil); };
      work(options);
    } catch (const Error& e) {
      if (e.kind != ErrorKind::kCancelled) throw;
    }
    if (PyErr_Occurred()) throw py::error_already_set();
  }

  std::vector<FloatArray> tensors_;
  Model model_;
  RunOptions options_;
};

// Pictures that are upscaled in the background, several at once where one does not fill the threads. For one thread at a time, and not for what is called
// meanwhile: Error(kArgument).
class PyMany {
 public:
  PyMany(const PyModel& model, int threads) : model_(model), threads_(std::clamp(threads, 1, kMaxThreads)), tasks_(std::make_unique<Background>(threads_)) {}
  PyMany(const PyMany&) = delete;
  ~PyMany() {
    const py::error_scope keep;  // what is being raised while this goes
    end();
  }

  size_t add(const py::array& picture, double white, bool to_u8) {
    const Alone alone(busy_);
    if (!tasks_) throw Error(ErrorKind::kArgument, "closed");
    auto item = std::make_unique<Item>();
    item->upscaling = model_.begin(picture, white, to_u8);
    model_.pack(threads_);  // in the background one thread would do it
    const bool wide = is_wide(item->upscaling.source->height(), item->upscaling.source->width());
    const size_t bytes = static_cast<size_t>(item->upscaling.picture.nbytes() + item->upscaling.result.nbytes());
    Item* const work = item.get();
    items_.push_back(std::move(item));
    try {
      work->task = tasks_->add([this, wide, work] { run(*work, wide); }, wide);
    } catch (...) {
      items_.pop_back();
      throw;
    }
    return bytes;
  }

  bool ready() {
    const Alone alone(busy_);
    return tasks_ && !items_.empty() && tasks_->done(items_.front()->task);
  }

  py::array take(const py::object& progress) {
    const Alone alone(busy_);
    if (!tasks_ || items_.empty()) throw Error(ErrorKind::kArgument, "no picture was added");
    Item& first = *items_.front();
    Progress poll(progress, 1);
    try {
      WithoutGil gil;
      tasks_->wait(first.task, [&] {
        if (!poll(first.parts_done, first.parts, gil)) throw Error(ErrorKind::kCancelled, "cancelled");
      });
    } catch (const Error& e) {
      if (e.kind != ErrorKind::kCancelled) throw;
      throw py::error_already_set();
    }
    const std::unique_ptr<Item> item = std::move(items_.front());
    items_.pop_front();
    if (item->error) std::rethrow_exception(item->error);
    return std::move(item->upscaling.result);
  }

  void close() {
    const Alone alone(busy_);
    end();
  }

 private:
  // Operations of a picture, some tenths of a second of one core, and bytes of as many runs as threads: from there on all threads work on one picture.
  static constexpr double kWide = 4e10, kWideBytes = 256 << 20;

  class Alone {
   public:
    explicit Alone(std::atomic_flag& busy) : busy_(busy) {
      if (busy_.test_and_set(std::memory_order_acquire)) throw Error(ErrorKind::kArgument, "another call is in the middle of these pictures");
    }
    Alone(const Alone&) = delete;
    ~Alone() { busy_.clear(std::memory_order_release); }

   private:
    std::atomic_flag& busy_;
  };

  struct Item {
    PyModel::Upscaling upscaling;
    int64_t task = -1;
    std::atomic<int64_t> parts_done{0}, parts{1};
    std::exception_ptr error;
  };

  void end() {
    stop_ = true;
    if (tasks_) {
      const WithoutGil gil;
      tasks_.reset();
    }
    items_.clear();
  }

  bool is_wide(int height, int width) {
    if (threads_ == 1) return false;
    if (height != height_ || width != width_) {
      wide_ = model_.flops(height, width) > kWide || model_.working_bytes(height, width, 1) * threads_ > kWideBytes;
      height_ = height, width_ = width;
    }
    return wide_;
  }

  void run(Item& item, bool wide) {
    RunOptions options = model_.options();
    options.threads = wide ? threads_ : 1;
    options.progress = [&](int64_t done, int64_t total) {
      item.parts = total, item.parts_done = done;
      return !stop_ && !shutting_down();
    };
    try {
      model_.run(item.upscaling, options);
    } catch (...) {
      item.error = std::current_exception();
    }
  }

  const PyModel& model_;
  const int threads_;
  int height_ = 0, width_ = 0;  // of the last picture, as the network sees it
  bool wide_ = false;
  std::atomic<bool> stop_{false};
  std::deque<std::unique_ptr<Item>> items_;
  std::unique_ptr<Background> tasks_;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

void translate(std::exception_ptr p) {
  try {
    std::rethrow_exception(p);
  } catch (const Error& e) {
    const char* name = nullptr;
    switch (e.kind) {
      case ErrorKind::kModel: name = "ModelError"; break;
      case ErrorKind::kPicture: name = "PictureError"; break;
      case ErrorKind::kBackend: name = "BackendError"; break;
      case ErrorKind::kMemory: PyErr_SetString(PyExc_MemoryError, e.what()); return;
      default: PyErr_SetString(PyExc_ValueError, e.what()); return;
    }
    PyErr_SetString(py::module_::import("fastsr.errors").attr(name).ptr(), e.what());
  }
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  py::register_exception_translator(translate);
  m.doc() = "The C++ core of fastsr.";
  py::class_<PyModel>(m, "Model")
      .def(py::init([](const py::bytes& fsr, int threads, int tile, const std::string& precision, const std::string& algorithm,
                       const std::optional<std::vector<FloatArray>>& tensors) {
             const auto bytes = static_cast<std::string_view>(fsr);
             const PlanOptions plan = plan_options(precision, algorithm);
             std::vector<Numbers> numbers;
             for (const FloatArray& a : tensors.value_or(std::vector<FloatArray>())) numbers.push_back(numbers_of(a));
             std::unique_ptr<PyModel> model;
             {
               const py::gil_scoped_release release;  // `fast` runs the network
               model = std::make_unique<PyModel>(FsrBytes{bytes.data(), bytes.size(), nullptr, tensors ? &numbers : nullptr}, threads, tile, plan);
             }
             if (tensors) model->keep(*tensors);
             return model;
           }),
           py::arg("fsr"), py::arg("threads") = 0, py::arg("tile") = 0, py::arg("precision") = "f32", py::arg("algorithm") = "",
           py::arg("tensors") = py::none())
      .def("run",
           [](const PyModel& m, const std::vector<AnyFloatArray>& inputs, const std::vector<int>& outputs, const py::object& progress, int threads, int chunk,
              int team, const py::sequence& into) { return m.run(inputs, outputs, progress, threads, chunk, team, into); },
           py::arg("inputs"), py::arg("outputs"), py::arg("progress") = py::none(), py::arg("threads") = 0, py::arg("chunk") = 0,
           py::arg("team") = -1, py::arg("into") = py::list())
      .def("upscale", &PyModel::upscale, py::arg("picture"), py::arg("progress") = py::none(), py::arg("white") = 1.0, py::arg("to_u8") = false,
           py::arg("threads") = 0)
      .def("kernels", &PyModel::kernels)
      .def("profile", &PyModel::profile, py::arg("inputs"), py::arg("threads") = 0)
      .def("describe", &PyModel::describe, py::arg("threads") = 0)
      .def("working_bytes", &PyModel::working_bytes, py::arg("height"), py::arg("width"), py::arg("threads") = 0)
      .def("working_memory", &PyModel::working_memory, py::arg("height"), py::arg("width"), py::arg("threads") = 0)
      .def_property_readonly("isa", &PyModel::isa);
  py::class_<PyMany>(m, "Many")
      .def(py::init<const PyModel&, int>(), py::arg("model"), py::arg("threads"), py::keep_alive<1, 2>())
      .def("add", &PyMany::add, py::arg("picture"), py::arg("white") = 1.0, py::arg("to_u8") = false)
      .def("ready", &PyMany::ready)
      .def("take", &PyMany::take, py::arg("progress") = py::none())
      .def("close", &PyMany::close);
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const Kernels* k : available_kernels()) names.emplace_back(k->isa);
    return names;
  });
  m.def("isa", [] { return std::string(kernels().isa); });
  m.def("set_isa", [](const std::string& name) { set_isa(name.c_str()); }, py::arg("name") = "");
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &get_num_threads);
}
