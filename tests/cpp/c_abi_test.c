/* Uses the C interface as an embedded program would. Usage: c_abi_test MODEL.fsr [SEVENTHS.fsr WIDE.fsr] ; prints "ok", or what went wrong and
 * returns 1. SEVENTHS takes only pictures whose sides are divisible by seven. WIDE keeps the size and has 3x3 convolutions for which "fast" is faster. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastsr.h"

#define CHECK(condition)                                                                                            \
  do {                                                                                                              \
    if (!(condition)) {                                                                                             \
      fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, fastsr_last_error());         \
      return 1;                                                                                                     \
    }                                                                                                               \
  } while (0)

static int stop(void *user, int64_t done, int64_t total) {
  ++*(int *)user;
  return done <= total;
}

static int count(void *user, int64_t done, int64_t total) {
  *(int64_t *)user = done * 1000 / total;
  return 0;
}

/* Models keep the precision they were opened with; a network that takes no picture of the engine's opens too. */
static int precisions(const char *sevenths, const char *wide, const float *in, float *exact, float *fast, int32_t height, int32_t width) {
  const size_t n = (size_t)height * (size_t)width;
  fastsr_model *first = NULL, *model = NULL, *other = NULL;
  double error = 0;
  CHECK(fastsr_open_file(wide, &first) == FASTSR_OK && fastsr_run(first, 0, in, height, width, exact, NULL, NULL) == FASTSR_OK);
  CHECK(fastsr_set_precision("f16") == FASTSR_ERROR_BACKEND && strstr(fastsr_last_error(), "use f32, fast or int8"));
  CHECK(fastsr_open_file(wide, &model) == FASTSR_OK && fastsr_run(model, 0, in, height, width, fast, NULL, NULL) == FASTSR_OK);
  CHECK(memcmp(exact, fast, sizeof(float) * n) == 0);
  fastsr_close(model);
  CHECK(fastsr_set_precision("fast") == FASTSR_OK && fastsr_open_file(wide, &model) == FASTSR_OK && fastsr_open_file(sevenths, &other) == FASTSR_OK);
  fastsr_close(other);
  CHECK(fastsr_run(model, 0, in, height, width, fast, NULL, NULL) == FASTSR_OK && memcmp(exact, fast, sizeof(float) * n) != 0);
  for (size_t i = 0; i < n; ++i) error += pow((double)exact[i] - fast[i], 2);
  CHECK(error / (double)n < 1e-6);
  CHECK(fastsr_run(first, 0, in, height, width, fast, NULL, NULL) == FASTSR_OK && memcmp(exact, fast, sizeof(float) * n) == 0);
  fastsr_close(model);
  for (int i = 0; i < 2; ++i) {
    CHECK(fastsr_set_precision("fast") == FASTSR_OK && fastsr_set_precision(i ? "" : NULL) == FASTSR_OK);
    CHECK(fastsr_open_file(wide, &model) == FASTSR_OK && fastsr_run(model, 0, in, height, width, fast, NULL, NULL) == FASTSR_OK);
    CHECK(memcmp(exact, fast, sizeof(float) * n) == 0);
    fastsr_close(model);
  }
  fastsr_close(first);
  return 0;
}

/* A quantised network runs in int8 unless told; no other network can. */
static int quantised(const char *wide, const char *quantised, const float *in, float *first, float *second) {
  enum { H = 20, W = 26 };
  fastsr_model *model = NULL;
  for (int i = 0; i < 2; ++i) {
    CHECK(fastsr_set_precision(i ? "int8" : NULL) == FASTSR_OK && fastsr_open_file(quantised, &model) == FASTSR_OK);
    CHECK(fastsr_run(model, 0, in, H, W, i ? second : first, NULL, NULL) == FASTSR_OK);
    fastsr_close(model);
  }
  CHECK(memcmp(first, second, sizeof(float) * H * W) == 0);
  model = NULL;
  CHECK(fastsr_open_file(wide, &model) == FASTSR_ERROR_MODEL && model == NULL && strstr(fastsr_last_error(), "not quantised"));
  CHECK(fastsr_set_precision("f32") == FASTSR_OK && fastsr_open_file(quantised, &model) == FASTSR_OK);
  CHECK(fastsr_run(model, 0, in, H, W, second, NULL, NULL) == FASTSR_OK);
  for (int i = 0; i < H * W; ++i) CHECK(fabsf(first[i] - second[i]) < 1.0f);
  fastsr_close(model);
  CHECK(fastsr_set_precision(NULL) == FASTSR_OK);
  return 0;
}

int main(int argc, char **argv) {
  enum { H = 37, W = 53 };
  int32_t abi = 0, h = 0, w = 0;
  int calls = 0;
  int64_t share = 0;
  fastsr_model *model = NULL, *none = NULL;
  fastsr_info info;
  CHECK(argc == 2 || argc == 5);
  CHECK(strcmp(fastsr_version(&abi), FASTSR_VERSION_STRING) == 0 && abi == FASTSR_ABI_VERSION);

  CHECK(fastsr_open_file("/no/such/file.fsr", &none) == FASTSR_ERROR_FILE && none == NULL && strstr(fastsr_last_error(), "/no/such/file.fsr"));
  CHECK(fastsr_open_file("/", &none) == FASTSR_ERROR_FILE && none == NULL && strstr(fastsr_last_error(), "cannot be"));
  CHECK(fastsr_open_memory("nonsense", 8, &none) == FASTSR_ERROR_MODEL && strstr(fastsr_last_error(), "signature"));
  CHECK(fastsr_open_memory(NULL, 0, &none) == FASTSR_ERROR_MODEL);
  CHECK(fastsr_open_file(argv[1], NULL) == FASTSR_ERROR_ARGUMENT);
  CHECK(fastsr_open_file(argv[1], &model) == FASTSR_OK);
  CHECK(fastsr_get_info(model, &info) == FASTSR_OK);
  CHECK(info.n_inputs == 1 && info.in_channels == 1 && info.colour == FASTSR_COLOUR_Y && info.scale == 2.0);
  CHECK(fastsr_output_size(model, 0, H, W, &h, &w) == FASTSR_OK && h == 2 * H && w == 2 * W);
  CHECK(fastsr_output_size(model, 9, H, W, &h, &w) == FASTSR_ERROR_ARGUMENT);
  CHECK(fastsr_output_size(model, 0, 0, W, &h, &w) == FASTSR_ERROR_ARGUMENT);

  float *in = malloc(sizeof(float) * H * W), *out = malloc(sizeof(float) * 4 * H * W), *again = malloc(sizeof(float) * 4 * H * W);
  uint8_t *picture = malloc(3 * H * W), *large = malloc(3 * 4 * H * W), *flipped = malloc(3 * 4 * H * W);
  CHECK(in && out && again && picture && large && flipped);
  for (int i = 0; i < H * W; ++i) in[i] = (float)(i * 7 % 256) / 255.0f;
  for (int i = 0; i < 3 * H * W; ++i) picture[i] = (uint8_t)(i * 31 % 256);

  CHECK(fastsr_run(model, 0, in, H, W, out, count, &share) == FASTSR_OK && share == 1000);
  for (int i = 0; i < 4 * H * W; ++i) CHECK(isfinite(out[i]));
  CHECK(fastsr_set_threads(3) == FASTSR_OK && fastsr_set_threads(-1) == FASTSR_ERROR_ARGUMENT);
  CHECK(fastsr_run(model, 0, in, H, W, again, NULL, NULL) == FASTSR_OK);
  CHECK(memcmp(out, again, sizeof(float) * 4 * H * W) == 0);
  CHECK(fastsr_run(model, 0, in, H, W, out, stop, &calls) == FASTSR_ERROR_CANCELLED && calls > 0);

  CHECK(fastsr_upscale(model, picture, H, W, 3, 3 * W, large, 6 * W, NULL, NULL) == FASTSR_OK);
  CHECK(fastsr_upscale(model, picture, H, W, 3, 3 * W, flipped + 6 * W * (2 * H - 1), -6 * W, NULL, NULL) == FASTSR_OK);
  for (int y = 0; y < 2 * H; ++y) CHECK(memcmp(large + 6 * W * y, flipped + 6 * W * (2 * H - 1 - y), 6 * W) == 0);
  CHECK(fastsr_upscale(model, picture, H, W, 1, W, large, 2 * W, NULL, NULL) == FASTSR_OK);
  CHECK(fastsr_upscale(model, picture, H, W, 4, 4 * W, large, 8 * W, NULL, NULL) == FASTSR_ERROR_PICTURE);
  CHECK(fastsr_upscale(model, picture, H, W, 3, 3 * W, large, 6 * W - 1, NULL, NULL) == FASTSR_ERROR_ARGUMENT && strstr(fastsr_last_error(), "out_stride"));
  CHECK(fastsr_upscale(model, picture, INT32_MAX, 1, 1, 0, large, 2, NULL, NULL) == FASTSR_ERROR_PICTURE && strstr(fastsr_last_error(), "too large"));
  CHECK(fastsr_run(model, 0, in, 1, INT32_MAX, out, NULL, NULL) == FASTSR_ERROR_PICTURE);
  CHECK(fastsr_run(NULL, 0, in, H, W, out, NULL, NULL) == FASTSR_ERROR_ARGUMENT && fastsr_get_info(NULL, &info) == FASTSR_ERROR_ARGUMENT);
  CHECK(fastsr_upscale(model, NULL, H, W, 3, 3 * W, large, 6 * W, NULL, NULL) == FASTSR_ERROR_ARGUMENT);

  CHECK(fastsr_set_isa("mmx") == FASTSR_ERROR_BACKEND && fastsr_set_isa("scalar") == FASTSR_OK);
  CHECK(fastsr_open_file(argv[1], &none) == FASTSR_OK && fastsr_get_info(none, &info) == FASTSR_OK && strcmp(info.isa, "scalar") == 0);
  CHECK(fastsr_run(none, 0, in, H, W, again, NULL, NULL) == FASTSR_OK);
  CHECK(fastsr_run(model, 0, in, H, W, out, NULL, NULL) == FASTSR_OK);
  for (int i = 0; i < 4 * H * W; ++i) CHECK(fabsf(out[i] - again[i]) < 1e-4f);
  fastsr_close(none);
  CHECK(fastsr_set_isa(NULL) == FASTSR_OK);
  if (argc == 5) {
    CHECK(fastsr_open_file(argv[2], &none) == FASTSR_OK && fastsr_get_info(none, &info) == FASTSR_OK && info.scale == 0);
    CHECK(fastsr_output_size(none, 0, 14, 21, &h, &w) == FASTSR_OK && h == 2 && w == 3);
    fastsr_close(none);
    CHECK(precisions(argv[2], argv[3], in, out, again, H, W) == 0);
    CHECK(quantised(argv[3], argv[4], in, out, again) == 0);
  }
  fastsr_close(model);
  fastsr_close(NULL);
  free(in), free(out), free(again), free(picture), free(large), free(flipped);
  puts("ok");
  return 0;
}
