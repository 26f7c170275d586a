// What the Python module does while the core works: other Python threads run, callbacks are called, signals seen.
#pragma once
#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <thread>
#include <utility>

namespace fastsr {

namespace py = pybind11;

// Lets other Python threads run while it lives. At the interpreter's exit Python before 3.14 ends the other (daemon) threads that ask for the GIL, by
// pthread_exit. A thread that comes out of the core sleeps instead, as with 3.14: its stack is what pool threads work on, and destructors must not throw.
class WithoutGil {
 public:
  WithoutGil() : entered_at_exit_(exiting()) { release(); }
  ~WithoutGil() { acquire(); }
  WithoutGil(const WithoutGil&) = delete;

  void release() { state_ = PyEval_SaveThread(); }
  void acquire() {
    if (!entered_at_exit_ && exiting()) sleep();
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // glibc's pthread_exit unwinds the stack
      sleep();
    }
  }

 private:
  static bool exiting() {
#if defined(PYPY_VERSION)
    return false;
#elif PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing() != 0;
#else
    return _Py_IsFinalizing() != 0;
#endif
  }
  [[noreturn]] static void sleep() {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }

  const bool entered_at_exit_;  // this is the thread that ends the interpreter
  PyThreadState* state_ = nullptr;
};

// The engine's progress callback: Python's own callback, and signals (Ctrl-C) whether there is one or not.
class Progress {
 public:
  Progress(py::object callback, int64_t rounds) : callback_(std::move(callback)), rounds_(rounds) {}

  bool operator()(int64_t done, int64_t total, WithoutGil& gil) {
    const auto now = std::chrono::steady_clock::now();
    if (callback_.is_none() && now - checked_ < std::chrono::milliseconds(80)) return true;
    checked_ = now;
    gil.acquire();
    bool go_on = PyErr_CheckSignals() == 0;  // an error stays set for this thread; PyModel::guarded finds it
    if (go_on && !callback_.is_none()) {
      PyObject* result =
          PyObject_CallFunction(callback_.ptr(), "LL", static_cast<long long>(done + round * total), static_cast<long long>(rounds_ * total));
      go_on = result != nullptr;
      Py_XDECREF(result);
    }
    gil.release();
    return go_on;
  }

  int64_t round = 0;

 private:
  const py::object callback_;
  const int64_t rounds_;
  std::chrono::steady_clock::time_point checked_ = std::chrono::steady_clock::now();
};

}  // namespace fastsr
