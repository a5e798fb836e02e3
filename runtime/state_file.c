#include "runtime/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/sha256.h"
#include "base/units.h"

enum { TEXT_BYTES = 4096, DIGEST_BYTES = 64, CHUNK_BYTES = 1 << 16 };

static const char magic[] = "ckpttrain state ", version[] = "2";

/* Between the text and the tensors. */
typedef struct progress {
    int64_t steps, counted_rows;
    double correct_rows, first_loss, last_loss, accuracy, val_loss, val_accuracy;
} progress;

static progress progress_of(const ckpt_train_report *r) {
    return (progress){.steps = r->steps, .counted_rows = r->counted_rows, .correct_rows = r->correct_rows,
                      .first_loss = r->first_loss, .last_loss = r->last_loss, .accuracy = r->accuracy,
                      .val_loss = r->val_loss, .val_accuracy = r->val_accuracy};
}

void ckpt_state_find_held(const ckpt_graph *graph, bool *held) {
    for (int t = 0; t < graph->tensor_count; t++) held[t] = false;
    for (int n = 0; n < graph->node_count; n++)
        for (int o = 0; o < graph->node[n].out_count; o++) {
            const int t = graph->node[n].out[o];
            const ckpt_role role = t < 0 ? CKPT_ROLE_STEP : graph->tensor[t].role;
            if (role != CKPT_ROLE_STEP && role != CKPT_ROLE_GRADSUM && role != CKPT_ROLE_RESULT) held[t] = true;
        }
}

/* *held lies in `pool`; *largest is the size of the largest tensor held, *total that of all. */
static ckpt_status list_held(const ckpt_graph *graph, ckpt_pool *pool, bool **held, uint64_t *largest, uint64_t *total,
                             ckpt_error *err) {
    *held = ckpt_pool_array(pool, graph->tensor_count, bool);
    *largest = *total = 0;
    if (!*held) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    ckpt_state_find_held(graph, *held);
    for (int t = 0; t < graph->tensor_count; t++) {
        const uint64_t bytes = (*held)[t] ? ckpt_tensor_bytes(&graph->tensor[t]) : 0;
        if (bytes > *largest) *largest = bytes;
        if (!ckpt_add_u64(*total, bytes, total)) return ckpt_fail(err, CKPT_NOMEM, "the run's state is too large for a file");
    }
    return CKPT_OK;
}

/* --- writing ---------------------------------------------------------------------------------------- */

typedef struct sink {
    ckpt_atomic_file file;
    ckpt_sha256 sum;
} sink;

static ckpt_status put(sink *to, const void *bytes, size_t count, ckpt_error *err) {
    ckpt_sha256_add(&to->sum, bytes, count);
    return ckpt_atomic_write(&to->file, bytes, count, err);
}

static ckpt_status put_text(sink *to, const ckpt_run_state *run, ckpt_error *err) {
    char text[TEXT_BYTES] = "";
    int used = snprintf(text, sizeof text, "%s%s\n", magic, version);
    for (int i = 0; i < run->fact_count && used < TEXT_BYTES; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s %s\n", run->facts[i].name, run->facts[i].value);
    if (used >= TEXT_BYTES) return ckpt_fail(err, CKPT_FAILED, "%s: what the run is bound to does not fit", to->file.path);
    return put(to, text, sizeof text, err);
}

static ckpt_status put_tensors(sink *to, const ckpt_run_state *run, const ckpt_exec *exec, ckpt_pool *pool, ckpt_error *err) {
    bool *held;
    uint64_t largest, total;
    CKPT_TRY(list_held(run->graph, pool, &held, &largest, &total, err));
    void *values = ckpt_pool_alloc(pool, (size_t)largest, 1);
    if (!values) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for the state");
    for (int t = 0; t < run->graph->tensor_count; t++) {
        if (!held[t]) continue;
        CKPT_TRY(ckpt_exec_get(exec, t, values, err));
        CKPT_TRY(put(to, values, (size_t)ckpt_tensor_bytes(&run->graph->tensor[t]), err));
    }
    return CKPT_OK;
}

ckpt_status ckpt_state_write(const ckpt_run_state *run, const char *path, const ckpt_exec *exec,
                             const ckpt_train_report *report, ckpt_error *err) {
    const progress done = progress_of(report);
    ckpt_pool pool = {0};
    sink to;
    char digest[DIGEST_BYTES + 1];
    ckpt_sha256_start(&to.sum);
    CKPT_TRY(ckpt_atomic_open(&to.file, path, err));
    ckpt_status status = put_text(&to, run, err);
    if (status == CKPT_OK) status = put(&to, &done, sizeof done, err);
    if (status == CKPT_OK) status = put_tensors(&to, run, exec, &pool, err);
    if (status == CKPT_OK) {
        ckpt_sha256_hex(&to.sum, digest);
        status = ckpt_atomic_write(&to.file, digest, DIGEST_BYTES, err);
    }
    if (status == CKPT_OK) status = ckpt_atomic_commit(&to.file, err);
    ckpt_atomic_close(&to.file);
    ckpt_pool_free(&pool);
    return status;
}

/* --- reading ---------------------------------------------------------------------------------------- */

typedef struct source {
    const char *path;
    int fd;
    uint64_t bytes;
    char text[TEXT_BYTES + 1]; /* ends in a zero */
    ckpt_error *err;
} source;

static ckpt_status damaged(const source *from, const char *how) {
    return ckpt_fail(from->err, CKPT_USAGE, "%s: the state file %s; delete it to begin anew, or give another --state",
                     from->path, how);
}

static ckpt_status take(const source *from, void *bytes, size_t count) {
    char *to = bytes;
    while (count) {
        const ssize_t n = read(from->fd, to, count);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return ckpt_fail(from->err, CKPT_FAILED, "%s: cannot be read: %s", from->path, strerror(errno));
        if (n == 0) return damaged(from, "is cut short");
        to += n;
        count -= (size_t)n;
    }
    return CKPT_OK;
}

static ckpt_status rewind_to(const source *from, off_t offset) {
    if (lseek(from->fd, offset, SEEK_SET) == offset) return CKPT_OK;
    return ckpt_fail(from->err, CKPT_FAILED, "%s: cannot be read: %s", from->path, strerror(errno));
}

/* The digest comes before everything else that is read: so every later message is about what was written. */
static ckpt_status check_digest(const source *from, ckpt_pool *pool) {
    char found[DIGEST_BYTES], digest[DIGEST_BYTES + 1];
    unsigned char *chunk = ckpt_pool_alloc(pool, CHUNK_BYTES, 1);
    ckpt_sha256 sum;
    if (!chunk) return ckpt_fail(from->err, CKPT_NOMEM, "out of host memory");
    ckpt_sha256_start(&sum);
    CKPT_TRY(rewind_to(from, 0));
    for (uint64_t left = from->bytes - DIGEST_BYTES; left;) {
        const size_t n = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        CKPT_TRY(take(from, chunk, n));
        ckpt_sha256_add(&sum, chunk, n);
        left -= n;
    }
    CKPT_TRY(take(from, found, sizeof found));
    ckpt_sha256_hex(&sum, digest);
    return memcmp(found, digest, DIGEST_BYTES) == 0 ? CKPT_OK : damaged(from, "is damaged: its checksum differs");
}

static ckpt_status check_kind(source *from, ckpt_pool *pool) {
    const size_t head = from->bytes < TEXT_BYTES ? (size_t)from->bytes : TEXT_BYTES;
    CKPT_TRY(take(from, from->text, head));
    if (strncmp(from->text, magic, strlen(magic)) != 0)
        return ckpt_fail(from->err, CKPT_USAGE, "%s: is not a state file of ckpttrain; give another --state", from->path);
    if (from->bytes < TEXT_BYTES + sizeof(progress) + DIGEST_BYTES) return damaged(from, "is cut short");
    CKPT_TRY(check_digest(from, pool));
    const char *number = from->text + strlen(magic);
    const int length = (int)strcspn(number, "\n");
    if (length == (int)strlen(version) && strncmp(number, version, strlen(version)) == 0) return CKPT_OK;
    return ckpt_fail(from->err, CKPT_USAGE, "%s: a state file of version %.*s, this program reads version %s; give another --state",
                     from->path, length < 20 ? length : 20, number, version);
}

static ckpt_status differs(const source *from, const ckpt_state_fact *fact, const char *value, int length) {
    if (fact->what)
        return ckpt_fail(from->err, CKPT_USAGE,
                         "%s: the state is of a run with another %s; give the same again, or another --state", from->path,
                         fact->what);
    if (length > 80) length = 80;
    return ckpt_fail(from->err, CKPT_USAGE,
                     "%s: the state is of a run with %s %.*s, this one has %s; give %s %.*s, or another --state", from->path,
                     fact->name, length, value, fact->value, fact->name, length, value);
}

static ckpt_status check_facts(const source *from, const ckpt_run_state *run) {
    const char *line = strchr(from->text, '\n');
    for (int i = 0; i < run->fact_count; i++) {
        const ckpt_state_fact *fact = &run->facts[i];
        const size_t name = strlen(fact->name);
        if (!line || strncmp(line + 1, fact->name, name) != 0 || line[1 + name] != ' ')
            return damaged(from, "does not say what it is bound to");
        const char *value = line + 1 + name + 1;
        const size_t length = strcspn(value, "\n");
        if (length != strlen(fact->value) || strncmp(value, fact->value, length) != 0)
            return differs(from, fact, value, (int)length);
        line = strchr(value, '\n');
    }
    return line && !line[1] ? CKPT_OK : damaged(from, "says more than it should of what it is bound to");
}

static ckpt_status take_progress(const source *from, ckpt_train_report *report) {
    progress p;
    CKPT_TRY(take(from, &p, sizeof p));
    /* Steps are 32 bits in the counters of random numbers. */
    if (p.steps < 0 || p.steps > UINT32_MAX || p.counted_rows < 0) return damaged(from, "holds an impossible number of steps");
    *report = (ckpt_train_report){.steps = p.steps, .counted_rows = p.counted_rows, .correct_rows = p.correct_rows,
                                  .first_loss = p.first_loss, .last_loss = p.last_loss, .accuracy = p.accuracy,
                                  .val_loss = p.val_loss, .val_accuracy = p.val_accuracy, .mismatch_step = -1};
    return CKPT_OK;
}

static ckpt_status take_all(source *from, const ckpt_run_state *run, ckpt_exec *const *exec, int exec_count, ckpt_pool *pool,
                            ckpt_train_report *report) {
    bool *held;
    uint64_t largest, total;
    CKPT_TRY(check_kind(from, pool));
    CKPT_TRY(check_facts(from, run));
    CKPT_TRY(list_held(run->graph, pool, &held, &largest, &total, from->err));
    if (from->bytes - TEXT_BYTES - sizeof(progress) - DIGEST_BYTES != total)
        return damaged(from, "has another size than the run's state");
    void *values = ckpt_pool_alloc(pool, (size_t)largest, 1);
    if (!values) return ckpt_fail(from->err, CKPT_NOMEM, "out of host memory for the state");
    CKPT_TRY(rewind_to(from, TEXT_BYTES));
    CKPT_TRY(take_progress(from, report));
    for (int t = 0; t < run->graph->tensor_count; t++) {
        if (!held[t]) continue;
        CKPT_TRY(take(from, values, (size_t)ckpt_tensor_bytes(&run->graph->tensor[t])));
        for (int e = 0; e < exec_count; e++) CKPT_TRY(ckpt_exec_set(exec[e], t, values, from->err));
    }
    return CKPT_OK;
}

ckpt_status ckpt_state_read(const ckpt_run_state *run, const char *path, ckpt_exec *const *exec, int exec_count,
                            ckpt_train_report *report, bool *found, ckpt_error *err) {
    struct stat info;
    ckpt_pool pool = {0};
    source from = {.path = path, .err = err};
    from.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not keep us waiting */
    *found = from.fd >= 0;
    if (from.fd < 0 && errno == ENOENT) return CKPT_OK;
    if (from.fd < 0) return ckpt_fail(err, CKPT_USAGE, "%s: cannot open the state file: %s", path, strerror(errno));
    ckpt_status status = CKPT_OK;
    if (fstat(from.fd, &info) != 0 || !S_ISREG(info.st_mode))
        status = ckpt_fail(err, CKPT_USAGE, "%s: is not a regular file; give another --state", path);
    else
        from.bytes = (uint64_t)info.st_size;
    if (status == CKPT_OK) status = take_all(&from, run, exec, exec_count, &pool, report);
    close(from.fd);
    ckpt_pool_free(&pool);
    return status;
}
