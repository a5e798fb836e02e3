/* From one stack to another: what a coroutine is made of.
 *
 *     fake_context_make(&routine, stack, bytes, body);   // body must never return
 *     fake_switch(&here, &routine);                      // until something switches back to `here`
 *
 * swapcontext does it everywhere, but asks the kernel for the signal mask twice a round: three quarters of the time
 * of a suite. On x86-64 the registers that a call preserves are put on the stack instead (System V ABI, 3.2.1).
 */
#ifndef CKPT_FAKE_SWITCH_H
#define CKPT_FAKE_SWITCH_H

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)

struct fake_context {
    void *stack_pointer;
};

extern "C" void fake_switch_stack(void **save, void *load);
asm(R"(
    .text
    .type fake_switch_stack, @function
fake_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size fake_switch_stack, .-fake_switch_stack
)");

static inline void fake_switch(fake_context *from, const fake_context *to) {
    fake_switch_stack(&from->stack_pointer, to->stack_pointer);
}

static inline bool fake_context_make(fake_context *context, char *stack, size_t bytes, void (*body)()) {
    void **top = (void **)((uintptr_t)(stack + bytes) & ~(uintptr_t)15);
    top[-1] = nullptr; /* where a body's caller would be */
    top[-2] = (void *)body;
    for (int i = 3; i <= 8; i++) top[-i] = nullptr; /* registers */
    context->stack_pointer = top - 8;
    return true;
}

#else

#include <ucontext.h>

struct fake_context {
    ucontext_t context;
};

static inline void fake_switch(fake_context *from, const fake_context *to) { swapcontext(&from->context, &to->context); }

static inline bool fake_context_make(fake_context *context, char *stack, size_t bytes, void (*body)()) {
    if (getcontext(&context->context) != 0) return false;
    context->context.uc_stack.ss_sp = stack;
    context->context.uc_stack.ss_size = bytes;
    context->context.uc_link = nullptr;
    makecontext(&context->context, body, 0);
    return true;
}

#endif

#endif
