/* Loops compiled once per instruction set.
 *
 *     CKPT_VECTOR static void add(double *restrict out, const double *restrict in, int count) { ... }
 */
#ifndef CKPT_VECTOR_H
#define CKPT_VECTOR_H

/* Compiles a function once per instruction set and picks at load time (GCC and clang, ELF systems on x86).
 * Contraction is off, so each gives the same bits. It belongs on loop bodies; what is
 * called inline is compiled with it. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(CKPT_BASELINE)
#define CKPT_VECTOR __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define CKPT_VECTOR
#endif

#endif
