/* Runs of ckpttrain and ckptplan beside values from outside: PyTorch in float64, numpy, onnxruntime.
 *
 *     test_differential CASE...             each CASE a file
 *     test_differential --control CASE...   each CASE with one expectation made wrong: every one must be noticed
 *
 * A case is a text file of lines. A word that begins with "@/" is a path in the source folder.
 *
 *     # anything                    a remark
 *     run train MODEL OPTION...     a run; what follows is expected of it. `plan`: of ckptplan
 *     exit STATUS                   its exit status; above 0: one line on stderr, nothing on stdout
 *     may refuse                    status 2 or 3, and nothing else is expected then; else status 0
 *     says TEXT                     TEXT is part of what it writes to stderr
 *     loss STEP VALUE [ERROR]       of a step, with its relative error (without: 1e-5 in step 0, 1e-4 later)
 *     either STEP VALUE VALUE       the loss of a step is one of two
 *     same                          the losses and the weights of the run before this one
 *     number KEY.KEY VALUE          an integer in the JSON document
 *     change NAME VALUE...          what training adds to the initializer, within 1e-3
 *     kept NAME                     the initializer is as it was, bit for bit
 *
 * A training run is made under two plans, --strategy none and min, which must agree bit for bit, and take the memory that they
 * say. */
#include "cmocka_all.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/onnx_file.h"
#include "run_program.h"

enum { MOST_STEPS = 64, MOST_TEXT = 512 };

static const double FIRST_LOSS = 1e-5, LATER_LOSS = 1e-4, CHANGE = 1e-3;

/* What a training run left behind. */
typedef struct outcome {
    program_run run;
    json_t *document; /* NULL where it printed none */
    double loss[MOST_STEPS];
    int steps;
    ckpt_onnx_file *before, *after; /* after: NULL where nothing was saved */
} outcome;

typedef struct trial {
    const char *path;   /* of the case */
    char *text;         /* its lines, cut up */
    bool control;       /* make the next expectation of a value wrong */
    int line;
    char words[4096];   /* of the run that is meant */
    bool training, over; /* over: nothing more is expected of the run */
    int faults;
    outcome first, second, previous; /* under none, under min; of the run before */
} trial;

/* What is wrong, or NULL: the result of a check. */
#define FAIL(...) (snprintf(fault, sizeof fault, __VA_ARGS__), fault)
static char fault[4096];

static char *slurp(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("%s: no such case", path);
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    char *text = calloc(1, (size_t)size + 1);
    assert_int_equal(fread(text, 1, (size_t)size, file), size);
    fclose(file);
    return text;
}

static void outcome_free(outcome *o) {
    program_free(&o->run);
    json_decref(o->document);
    ckpt_onnx_free(o->before);
    ckpt_onnx_free(o->after);
    *o = (outcome){0};
}

/* "@/a/b.onnx --data ..." -> the path of the model. */
static char *model_path(const char *words) {
    const int length = (int)strcspn(words, " ");
    const bool in_source = strncmp(words, "@/", 2) == 0;
    char *path;
    if (asprintf(&path, "%s%.*s", in_source ? CKPT_SOURCE_DIR : "", length - in_source, words + in_source) < 0) abort();
    return path;
}

static void read_log(const char *path, outcome *o) {
    FILE *file = fopen(path, "r");
    char line[4096];
    while (file && fgets(line, sizeof line, file)) {
        json_t *step = json_loads(line, 0, NULL);
        const json_t *loss = json_object_get(step, "loss");
        const bool is_step = json_object_get(step, "step") && json_is_number(loss);
        if (is_step && o->steps < MOST_STEPS) o->loss[o->steps++] = json_number_value(loss);
        json_decref(step);
    }
    if (file) fclose(file);
    unlink(path);
}

static outcome train(const char *words, const char *strategy) {
    char saved[64], log[64];
    ckpt_error err;
    outcome o = {0};
    snprintf(saved, sizeof saved, "saved.%d.onnx", (int)getpid());
    snprintf(log, sizeof log, "log.%d.jsonl", (int)getpid());
    o.run = run_program("train", "%s --device cpu --threads 1 --strategy %s --save %s --log %s --json", words, strategy, saved,
                        log);
    o.document = json_loads(o.run.out, 0, NULL);
    read_log(log, &o);
    if (o.run.status == 0) {
        char *path = model_path(words);
        if (ckpt_onnx_read(path, &o.before, &err) != CKPT_OK || ckpt_onnx_read(saved, &o.after, &err) != CKPT_OK)
            fail_msg("%s: %s", words, err.message);
        free(path);
    }
    unlink(saved);
    return o;
}

static void start(trial *t, const char *which, const char *words) {
    outcome_free(&t->previous);
    outcome_free(&t->second);
    t->previous = t->first;
    t->first = (outcome){0};
    t->over = false;
    t->training = strcmp(which, "train") == 0;
    snprintf(t->words, sizeof t->words, "%s", words);
    if (t->training) {
        t->first = train(words, "none");
        if (t->first.run.status == 0) t->second = train(words, "min");
    } else {
        t->first.run = run_program("plan", "%s", words);
        t->first.document = json_loads(t->first.run.out, 0, NULL);
    }
}

static const json_t *member(const json_t *document, const char *path) {
    char key[MOST_TEXT];
    for (; path && document; path = strchr(path, '.') ? strchr(path, '.') + 1 : NULL) {
        snprintf(key, sizeof key, "%.*s", (int)strcspn(path, "."), path);
        document = json_object_get(document, key);
    }
    return document;
}

/* The two plans agree, and each took the memory that it said. */
static const char *check_plans(const trial *t) {
    const char *hash[2];
    for (int i = 0; i < 2; i++) {
        const outcome *o = i ? &t->second : &t->first;
        if (o->run.status != 0) return FAIL("under plan %d: exit %d: %s", i, o->run.status, o->run.err);
        const json_t *peak = member(o->document, "memory.planned_peak");
        const long long planned = json_integer_value(peak);
        const long long measured = json_integer_value(member(o->document, "memory.measured_peak"));
        if (!peak || planned != measured) return FAIL("planned %lld bytes, measured %lld", planned, measured);
        hash[i] = json_string_value(json_object_get(o->document, "weights_sha256"));
    }
    if (!hash[0] || !hash[1] || strcmp(hash[0], hash[1]) != 0) return FAIL("the weights depend on the plan");
    return NULL;
}

static const char *check_exit(const trial *t, const char *rest) {
    const int want = atoi(rest);
    const char *end = strchr(t->first.run.err, '\n');
    if (t->first.run.status != want) return FAIL("exit %d instead of %d: %s", t->first.run.status, want, t->first.run.err);
    if (want == 0) return t->training ? check_plans(t) : NULL;
    if (!end || end[1]) return FAIL("not one line: %s", t->first.run.err);
    return *t->first.run.out ? FAIL("refused, but wrote: %s", t->first.run.out) : NULL;
}

static const char *check_may(const trial *t, const char *rest) {
    const int status = t->first.run.status;
    (void)rest;
    return check_exit(t, status == 2 ? "2" : status == 3 ? "3" : "0");
}

static const char *check_says(const trial *t, const char *rest) {
    return strstr(t->first.run.err, rest) ? NULL : FAIL("'%s' is not in: %s", rest, t->first.run.err);
}

/* NaN is near nothing. */
static bool near(double got, double want, double error) { return fabs(got - want) <= error * fabs(want); }

static const char *check_loss(const trial *t, const char *rest) {
    int step;
    double want, error = 0;
    const int count = sscanf(rest, "%d %lf %lf", &step, &want, &error);
    if (count < 2) return FAIL("no loss line");
    if (count < 3) error = step == 0 ? FIRST_LOSS : LATER_LOSS;
    if (t->control) want *= 1 + 3 * error;
    if (step >= t->first.steps) return FAIL("%d steps, a loss of step %d is expected", t->first.steps, step);
    const double got = t->first.loss[step];
    return near(got, want, error) ? NULL : FAIL("the loss of step %d is %.9g instead of %.9g", step, got, want);
}

static const char *check_either(const trial *t, const char *rest) {
    int step;
    double one, two;
    if (sscanf(rest, "%d %lf %lf", &step, &one, &two) != 3) return FAIL("no line of two losses");
    if (t->control) one *= 1 + 3 * FIRST_LOSS, two *= 1 - 3 * FIRST_LOSS;
    if (step >= t->first.steps) return FAIL("%d steps, a loss of step %d is expected", t->first.steps, step);
    const double got = t->first.loss[step];
    if (near(got, one, FIRST_LOSS) || near(got, two, FIRST_LOSS)) return NULL;
    return FAIL("the loss of step %d is %.9g instead of %.9g or %.9g", step, got, one, two);
}

static const char *check_number(const trial *t, const char *rest) {
    char path[MOST_TEXT];
    long long want;
    if (sscanf(rest, "%511s %lld", path, &want) != 2) return FAIL("no line of a number");
    if (t->control) want++;
    const json_t *got = member(t->first.document, path);
    if (!json_is_integer(got)) return FAIL("no integer '%s' in the document; stderr: %s", path, t->first.run.err);
    const long long value = json_integer_value(got);
    return value == want ? NULL : FAIL("%s is %lld instead of %lld", path, value, want);
}

static const Onnx__TensorProto *initializer(const ckpt_onnx_file *file, const char *name) {
    for (size_t i = 0; file && i < file->model->graph->n_initializer; i++)
        if (strcmp(file->model->graph->initializer[i]->name, name) == 0) return file->model->graph->initializer[i];
    return NULL;
}

static float *values_of(const ckpt_onnx_file *file, const char *name, size_t *count) {
    const Onnx__TensorProto *tensor = initializer(file, name);
    ckpt_onnx_tensor_info info;
    ckpt_error err;
    if (!tensor) return NULL;
    if (ckpt_onnx_tensor_describe(file, tensor, &info, &err) != CKPT_OK) fail_msg("%s", err.message);
    *count = (size_t)info.count;
    float *values = calloc(*count + 1, sizeof *values);
    if (ckpt_onnx_tensor_read_f32(file, tensor, values, *count, &err) != CKPT_OK) fail_msg("%s", err.message);
    return values;
}

static double norm(const double *v, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += v[i] * v[i];
    return sqrt(sum);
}

/* ||after - before - change|| <= 1e-3 ||change||, or what single precision cannot tell apart in these weights. */
static const char *compare_change(const trial *t, const char *name, const float *before, const float *after, const char *rest,
                                  size_t count) {
    double *held = calloc(3 * count + 3, sizeof *held), *change = held + count + 1, *got = change + count + 1;
    const char *wrong = NULL;
    char *end;
    for (size_t i = 0; i < count && !wrong; i++, rest = end) {
        change[i] = strtod(rest, &end);
        if (end == rest) wrong = FAIL("'%s': %zu values, %zu are expected", name, count, i);
        held[i] = (double)before[i];
        got[i] = (double)after[i] - held[i];
    }
    const double allowed = CHANGE * norm(change, count) + 3e-7 * norm(held, count) + 3e-8;
    const double moved = norm(got, count), want = norm(change, count);
    if (t->control) change[0] += 3 * allowed;
    for (size_t i = 0; i < count; i++) got[i] -= change[i];
    const double error = norm(got, count);
    free(held);
    if (wrong || error <= allowed) return wrong;
    if (!(moved > 0)) return FAIL("'%s' is not trained", name);
    return FAIL("'%s' changes by %.4g instead of %.4g, difference %.2g", name, moved, want, error);
}

static const char *check_change(const trial *t, const char *rest) {
    char name[MOST_TEXT];
    int length;
    size_t count, count_after = 0;
    if (sscanf(rest, "%511s%n", name, &length) != 1) return FAIL("no line of a change");
    if (!t->first.after) return FAIL("nothing was saved: %s", t->first.run.err);
    float *before = values_of(t->first.before, name, &count), *after = values_of(t->first.after, name, &count_after);
    const char *wrong;
    if (!before || !after || count != count_after)
        wrong = FAIL("'%s' is no initializer of both files", name);
    else
        wrong = compare_change(t, name, before, after, rest + length, count);
    free(before);
    free(after);
    return wrong;
}

static bool same_bits(const ckpt_onnx_file *a, const ckpt_onnx_file *b, const char *name) {
    const Onnx__TensorProto *x = initializer(a, name), *y = initializer(b, name);
    if (!x || !y) return false;
    const size_t size = onnx__tensor_proto__get_packed_size(x);
    if (size != onnx__tensor_proto__get_packed_size(y)) return false;
    uint8_t *one = malloc(size + 1), *two = malloc(size + 1);
    onnx__tensor_proto__pack(x, one);
    onnx__tensor_proto__pack(y, two);
    const bool same = memcmp(one, two, size) == 0;
    free(one);
    free(two);
    return same;
}

static const char *check_kept(const trial *t, const char *rest) {
    if (!t->first.after) return FAIL("nothing was saved: %s", t->first.run.err);
    return same_bits(t->first.before, t->first.after, rest) ? NULL : FAIL("'%s' is no parameter and has changed", rest);
}

static const char *check_same(const trial *t, const char *rest) {
    (void)rest;
    const outcome *a = &t->previous, *b = &t->first;
    const char *one = json_string_value(json_object_get(a->document, "weights_sha256"));
    const char *two = json_string_value(json_object_get(b->document, "weights_sha256"));
    if (a->run.status != b->run.status) return FAIL("exit %d, before %d: %s", b->run.status, a->run.status, b->run.err);
    if (a->steps != b->steps) return FAIL("%d steps, before %d", b->steps, a->steps);
    for (int i = 0; i < a->steps; i++)
        if (a->loss[i] != b->loss[i]) return FAIL("the loss of step %d is %.9g, before %.9g", i, b->loss[i], a->loss[i]);
    return one && two && strcmp(one, two) == 0 ? NULL : FAIL("other weights than before");
}

static const struct {
    const char *word;
    const char *(*check)(const trial *, const char *);
    bool has_control; /* whether a value can be made wrong */
} checks[] = {
    {"exit", check_exit, false},    {"may", check_may, false},       {"says", check_says, false},
    {"loss", check_loss, true},     {"either", check_either, true},  {"same", check_same, false},
    {"number", check_number, true}, {"change", check_change, true},  {"kept", check_kept, false},
};
enum { CHECKS = sizeof checks / sizeof *checks };

static int check_of(const char *word, size_t length) {
    for (int i = 0; i < CHECKS; i++)
        if (strlen(checks[i].word) == length && memcmp(checks[i].word, word, length) == 0) return i;
    return CHECKS;
}

/* A loss of zero cannot be made wrong by a factor. */
static bool all_zero(const char *rest) {
    char *end;
    rest += strcspn(rest, " ");
    for (double v = strtod(rest, &end); end != rest; rest = end, v = strtod(rest, &end))
        if (v != 0) return false;
    return true;
}

static void check_line(trial *t, char *line) {
    const size_t length = strcspn(line, " ");
    char *rest = line + length + (line[length] == ' ');
    if (!*line || *line == '#') return;
    if (strncmp(line, "run ", 4) == 0) {
        const size_t which = strcspn(rest, " ");
        rest[which] = 0;
        start(t, rest, rest + which + 1);
        return;
    }
    const int i = check_of(line, length);
    if (i == CHECKS) fail_msg("%s:%d: what is '%.*s'?", t->path, t->line, (int)length, line);
    if (t->over) return;
    trial plain = *t;
    plain.control = false;
    const char *wrong = checks[i].check(&plain, rest);
    if (checks[i].check == check_exit || checks[i].check == check_may) t->over = wrong || t->first.run.status != 0;
    if (checks[i].check == check_exit && !wrong) t->over = false;
    if (!t->control && wrong) {
        print_error("%s:%d: ckpt%s %s\n    %s\n", t->path, t->line, t->training ? "train" : "plan", t->words, wrong);
        t->faults++;
    }
    /* Where the expectation itself is not met, the other test says so. */
    if (t->control && checks[i].has_control && !all_zero(rest) && !wrong && !checks[i].check(t, rest)) {
        print_error("%s:%d: made wrong and not noticed: %.60s\n", t->path, t->line, line);
        t->faults++;
    }
}

static void run_case(const char *path, bool control) {
    trial t = {.path = path, .control = control, .text = slurp(path)};
    for (char *line = t.text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        t.line++;
        check_line(&t, line);
    }
    outcome_free(&t.first);
    outcome_free(&t.second);
    outcome_free(&t.previous);
    free(t.text);
    if (t.faults) fail_msg("%s: %d expectations are not met", path, t.faults);
}

static void test_case(void **state) { run_case(*state, false); }
static void test_control(void **state) { run_case(*state, true); }

int main(int argc, char **argv) {
    const bool control = argc > 1 && strcmp(argv[1], "--control") == 0;
    const int first = control ? 2 : 1, count = argc - first;
    if (count < 1) return 2;
    struct CMUnitTest *tests = calloc((size_t)count, sizeof *tests);
    for (int i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){.name = strrchr(argv[first + i], '/') ? strrchr(argv[first + i], '/') + 1 : argv[first + i],
                                       .test_func = control ? test_control : test_case,
                                       .initial_state = argv[first + i]};
    const int failed = _cmocka_run_group_tests("differential", tests, (size_t)count, NULL, NULL);
    free(tests);
    return failed != 0;
}
