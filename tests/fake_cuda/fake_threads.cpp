/* Threads of one block as coroutines. A thread runs until it meets others: at a barrier all that are left must
 * come, at a shuffle all lanes of its mask must; what would hang or be undefined on a device ends the process. */
#include <cstdlib>
#include <vector>

#include "fake_cuda.h"
#include "fake_switch.h"

#if defined(__SANITIZE_ADDRESS__)
#define FAKE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FAKE_ASAN 1
#endif
#endif
#ifdef FAKE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace {

enum waits { RUNS, BARRIER, SHUFFLE, LEFT };

struct thread {
    fake_context context = {};
    char *stack = nullptr;
    waits state = LEFT;
    unsigned mask = 0, source = 0;
    uint64_t bits = 0;
    dim3 index;
};

enum { STACK_BYTES = 128 << 10 };

struct pool : std::vector<thread *> {
    ~pool() {
        for (thread *t : *this) {
            free(t->stack);
            delete t;
        }
    }
};
pool threads; /* made once, used for every block */
size_t live, current;
bool in_block;
fake_context scheduler;
const std::function<void()> *body;
#ifdef FAKE_ASAN
const void *scheduler_stack;
size_t scheduler_bytes;
#endif

void enter_scheduler() {
    thread *t = threads[current];
#ifdef FAKE_ASAN
    void *own = nullptr;
    __sanitizer_start_switch_fiber(&own, scheduler_stack, scheduler_bytes);
#endif
    fake_switch(&t->context, &scheduler);
#ifdef FAKE_ASAN
    __sanitizer_finish_switch_fiber(own, &scheduler_stack, &scheduler_bytes);
#endif
}

void enter_thread(size_t number) {
    thread *t = threads[number];
    current = number;
    threadIdx = t->index;
#ifdef FAKE_ASAN
    void *own = nullptr;
    __sanitizer_start_switch_fiber(&own, t->stack, STACK_BYTES);
#endif
    fake_switch(&scheduler, &t->context);
#ifdef FAKE_ASAN
    __sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
}

/* One life after another: a coroutine outlasts the block it was made for. */
void life() {
#ifdef FAKE_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
    for (;;) {
        (*body)();
        threads[current]->state = LEFT;
        enter_scheduler();
    }
}

void begin_life(thread *t) {
    t->stack = (char *)malloc(STACK_BYTES);
    if (!t->stack || !fake_context_make(&t->context, t->stack, STACK_BYTES, life))
        fake_cuda_die("no memory for the threads of a block");
}

void reserve(size_t count) {
    while (threads.size() < count) {
        threads.push_back(new thread());
        begin_life(threads.back());
    }
}

/* Lets the lanes of t's mask go on if all have come; their values are read before any goes on. */
bool release_shuffle(size_t number) {
    const size_t warp = number / 32 * 32;
    const unsigned mask = threads[number]->mask;
    uint64_t value[32] = {0};
    for (size_t l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        if (warp + l >= live || threads[warp + l]->state == LEFT)
            fake_cuda_die("a shuffle waits for lane %zu, which has left its kernel", l);
        if (threads[warp + l]->state != SHUFFLE) return false;
        if (threads[warp + l]->mask != mask)
            fake_cuda_die("lanes of a shuffle name different masks, %#x and %#x", mask, threads[warp + l]->mask);
        value[l] = threads[warp + l]->bits;
    }
    for (size_t l = 0; l < 32; l++) {
        if (!(mask >> l & 1)) continue;
        thread *t = threads[warp + l];
        if (!(mask >> t->source & 1)) fake_cuda_die("a shuffle reads lane %u, which its mask %#x does not name", t->source, mask);
        t->bits = value[t->source];
        t->state = RUNS;
    }
    return true;
}

bool release_barrier() {
    for (size_t i = 0; i < live; i++)
        if (threads[i]->state != BARRIER && threads[i]->state != LEFT) return false;
    bool any = false;
    for (size_t i = 0; i < live; i++)
        if (threads[i]->state == BARRIER) threads[i]->state = RUNS, any = true;
    return any;
}

} // namespace

void __syncthreads() {
    if (!in_block) fake_cuda_die("a barrier in a kernel whose threads were said not to meet");
    threads[current]->state = BARRIER;
    enter_scheduler();
}

unsigned fake_cuda_lane() {
    if (!in_block) fake_cuda_die("a shuffle in a kernel whose threads were said not to meet");
    return (unsigned)(current % 32);
}

uint64_t fake_cuda_shuffle(unsigned mask, uint64_t bits, unsigned source) {
    thread *t = threads[current];
    if (!(mask >> fake_cuda_lane() & 1)) fake_cuda_die("a lane shuffles under a mask that does not name it");
    t->mask = mask;
    t->source = source;
    t->bits = bits;
    t->state = SHUFFLE;
    enter_scheduler();
    return t->bits;
}

void fake_cuda_run_block(const std::function<void()> &thread_body) {
    live = (size_t)blockDim.x * blockDim.y * blockDim.z;
    reserve(live);
    body = &thread_body;
    in_block = true;
    for (size_t i = 0; i < live; i++) {
        threads[i]->state = RUNS;
        threads[i]->index = dim3((unsigned)(i % blockDim.x), (unsigned)(i / blockDim.x % blockDim.y),
                                 (unsigned)(i / blockDim.x / blockDim.y));
    }
    for (size_t left = 0; left < live;) {
        bool moved = false;
        for (size_t i = 0; i < live; i++)
            if (threads[i]->state == RUNS) enter_thread(i), moved = true;
        for (size_t i = 0; i < live; i++)
            if (threads[i]->state == SHUFFLE) moved |= release_shuffle(i);
        moved |= release_barrier();
        left = 0;
        for (size_t i = 0; i < live; i++) left += threads[i]->state == LEFT;
        if (!moved && left < live) fake_cuda_die("the threads of a block wait for each other for ever");
    }
    in_block = false;
}
