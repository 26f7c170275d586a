/* The C interface of fastsr: super-resolution networks saved as .fsr files, run on this machine's processor.
 *
 * Every function that can fail returns FASTSR_OK or an error code; fastsr_last_error() then says what was wrong and what to do about it. A model may be
 * used from several threads at once: each calling thread works on its own picture, and all share one pool of other threads. Many small pictures are done
 * fastest by as many calling threads as there are cores after fastsr_set_threads(1). Models read .fsr files only; "fastsr convert" makes them from others.
 */
#ifndef FASTSR_H
#define FASTSR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FASTSR_VERSION_STRING "0.1.0"
#define FASTSR_ABI_VERSION 1 /* grows when a caller must be compiled again */

#if defined(_WIN32) && defined(FASTSR_SHARED)
#define FASTSR_API __declspec(dllexport)
#elif defined(__GNUC__)
#define FASTSR_API __attribute__((visibility("default")))
#else
#define FASTSR_API
#endif

typedef struct fastsr_model fastsr_model;

enum fastsr_status {
  FASTSR_OK = 0,
  FASTSR_ERROR_MODEL = 1,    /* not a usable .fsr file */
  FASTSR_ERROR_PICTURE = 2,  /* the picture does not fit the network */
  FASTSR_ERROR_BACKEND = 3,  /* unknown instruction set or precision */
  FASTSR_ERROR_ARGUMENT = 4, /* a null pointer, a size, stride or index out of range, a FASTSR_ variable that is no number */
  FASTSR_ERROR_MEMORY = 5,
  FASTSR_ERROR_CANCELLED = 6, /* the progress callback returned nonzero */
  FASTSR_ERROR_FILE = 7       /* the file cannot be read */
};

enum fastsr_colour { FASTSR_COLOUR_RAW = 0, FASTSR_COLOUR_Y = 1, FASTSR_COLOUR_BGR = 2, FASTSR_COLOUR_RGB = 3 };

typedef struct fastsr_info {
  int32_t in_channels, out_channels; /* of the first input and the first output */
  int32_t n_inputs, n_outputs;
  int32_t colour;    /* enum fastsr_colour: what the network sees of a picture; with RAW only fastsr_run works */
  int32_t pre_scale; /* fastsr_upscale enlarges the picture by this factor (bicubic) before the network sees it; mostly 1 */
  double scale;      /* how many times larger a picture becomes, pre_scale included; 0 where it depends on the picture's size */
  const char *isa;   /* instruction set the model was made for; static */
} fastsr_info;

/* Called on the thread that called the run, with how much is done and how much there is in all; nonzero cancels. */
typedef int (*fastsr_progress)(void *user, int64_t done, int64_t total);

/* Returns FASTSR_VERSION_STRING and, where `abi` is not null, FASTSR_ABI_VERSION of the library. */
FASTSR_API const char *fastsr_version(int32_t *abi);

/* What the last failed call on this thread complained about; valid until the next failure on this thread. Never null. */
FASTSR_API const char *fastsr_last_error(void);

/* Opens the .fsr file in `bytes` bytes of memory, which are not needed afterwards, or at `path` (UTF-8). */
FASTSR_API int fastsr_open_memory(const void *data, size_t bytes, fastsr_model **model);
FASTSR_API int fastsr_open_file(const char *path, fastsr_model **model);
FASTSR_API void fastsr_close(fastsr_model *model); /* null is fine */

FASTSR_API int fastsr_get_info(const fastsr_model *model, fastsr_info *info);

/* Size of output number `output` for a picture of that size: what fastsr_upscale makes, and what fastsr_run makes of an input that is pre_scale times
 * larger than the picture. */
FASTSR_API int fastsr_output_size(const fastsr_model *model, int32_t output, int32_t height, int32_t width, int32_t *out_height, int32_t *out_width);

/* The bare network with one input: float32 (channels, height, width) to float32 (channels, height, width), both dense. `output`: which one, 0 the first.
 * `progress` may be null. `in` and `out` do not overlap. The first run of a model takes longer: it makes of the weights what all runs read, several times
 * the memory of the file. */
FASTSR_API int fastsr_run(const fastsr_model *model, int32_t output, const float *in, int32_t height, int32_t width, float *out, fastsr_progress progress,
                          void *user);

/* A whole 8-bit picture, colour conversion included: channels 1 grey or 3 BGR, pixels interleaved, `stride` bytes from line to line (may be negative).
 * `out` has the size that fastsr_output_size gives and does not overlap `in`. */
FASTSR_API int fastsr_upscale(const fastsr_model *model, const uint8_t *in, int32_t height, int32_t width, int32_t channels, ptrdiff_t in_stride,
                              uint8_t *out, ptrdiff_t out_stride, fastsr_progress progress, void *user);

/* Threads of each run of all models, 0 for all cores. */
FASTSR_API int fastsr_set_threads(int32_t n);

/* Highest instruction set for models opened from now on: "scalar", "avx2", "avx512" or "neon"; null or "" for the best there is. */
FASTSR_API int fastsr_set_isa(const char *name);

/* What models opened from now on compute in: "f32"; "fast" for 16-bit integers in 3x3 convolutions wherever that keeps the result within 60 dB PSNR of
 * f32's; "int8" for the 8-bit integers of a quantised network, exactly (opening any other network is then FASTSR_ERROR_MODEL); null or "" for "int8" where
 * the network is quantised and "f32" otherwise. Opening a model takes longer with "fast": the network sees a picture of the engine's first. */
FASTSR_API int fastsr_set_precision(const char *name);

#ifdef __cplusplus
}
#endif

#endif
