// Compiler spellings shared by all instruction sets. No includes, no functions: safe in every target unit.
#pragma once

#if (defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)) && !defined(_MSC_VER)
#define FASTSR_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FASTSR_SANITIZED 1
#endif
#endif

// Kernels made of one piece take minutes to compile with the checks of sanitizers in them.
#if defined(FASTSR_SANITIZED)
#define FASTSR_INLINE static inline
#define FASTSR_NOINLINE static __attribute__((noinline))
#define FASTSR_UNROLL
#define FASTSR_NO_UNROLL
#elif defined(_MSC_VER) && !defined(__clang__)
#define FASTSR_INLINE static __forceinline
#define FASTSR_NOINLINE static __declspec(noinline)
#define FASTSR_UNROLL
#define FASTSR_NO_UNROLL
#elif defined(__clang__)
#define FASTSR_INLINE static inline __attribute__((always_inline))
#define FASTSR_NOINLINE static __attribute__((noinline))
#define FASTSR_UNROLL _Pragma("clang loop unroll(full)")
#define FASTSR_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define FASTSR_INLINE static inline __attribute__((always_inline))
#define FASTSR_NOINLINE static __attribute__((noinline))
#define FASTSR_UNROLL _Pragma("GCC unroll 32")
#define FASTSR_NO_UNROLL _Pragma("GCC unroll 1")
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define FASTSR_X86 1
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define FASTSR_ARM64 1
#endif

// OPAQUE: x, in a register of the kind that the constraint names, is taken for a value of unknown origin: neither computed anew nor loaded twice.
// PREFETCH: brings a cache line into the second level, PREFETCH_NEAR into the first, PREFETCH_STORE too, to be written where the target has an instruction
// for that; harmless with any address.
#if defined(_MSC_VER) && !defined(__clang__)
#define FASTSR_OPAQUE(constraint, x)
#define FASTSR_PREFETCH(p) static_cast<void>(p)
#define FASTSR_PREFETCH_NEAR(p) static_cast<void>(p)
#define FASTSR_PREFETCH_STORE(p) static_cast<void>(p)
#else
#define FASTSR_OPAQUE(constraint, x) __asm__("" : "+" constraint(x))
#define FASTSR_PREFETCH(p) __builtin_prefetch(p, 0, 2)
#define FASTSR_PREFETCH_NEAR(p) __builtin_prefetch(p)
#define FASTSR_PREFETCH_STORE(p) __builtin_prefetch(p, 1)
#endif
