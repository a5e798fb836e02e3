#include "job/cost_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "job/devices.h"

enum { PATH_SIZE = 1024, MACHINE_SIZE = 192, MOST_BYTES = 16 << 20 };
static const char rates_schema[] = "ckpt-device/2", profile_schema[] = "ckpt-profile/1";

/* Sanitizers make everything slow, the kernels not least: what is measured with them is of another kind. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const char build[] = CKPT_VERSION " sanitized";
#else
static const char build[] = CKPT_VERSION;
#endif

/* The rest of the first line of the file that begins with `key`, behind its colon. */
static bool find_line(const char *path, const char *key, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    char line[256];
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        found = colon && strncmp(line, key, strlen(key)) == 0;
        if (found) snprintf(text, size, "%.*s", (int)strcspn(colon + 1 + strspn(colon + 1, " \t"), "\n"), colon + 1 + strspn(colon + 1, " \t"));
    }
    if (file) fclose(file);
    return found;
}

/* What machine figures are of, seen without the device's libraries: a home folder may be shared by many. False where that
 * cannot be told: then nothing is kept. */
static bool find_machine(const char *device, char text[MACHINE_SIZE]) {
    if (strcmp(device, "cpu") == 0) {
        struct utsname name;
        const long cores = sysconf(_SC_NPROCESSORS_ONLN);
        if (!find_line("/proc/cpuinfo", "model name", text, MACHINE_SIZE - 16)) {
            if (uname(&name) != 0) return false;
            snprintf(text, MACHINE_SIZE - 16, "%s %s", name.machine, name.nodename);
        }
        snprintf(text + strlen(text), 16, " x %ld", cores);
        return true;
    }
    glob_t found;
    bool good = glob("/proc/driver/nvidia/gpus/*/information", 0, NULL, &found) == 0;
    if (!good) return false;
    good = found.gl_pathc > 0 && find_line(found.gl_pathv[0], "Model", text, MACHINE_SIZE);
    globfree(&found);
    return good;
}

/* The folder with a '/' at its end, made where it is missing. */
static bool find_folder(char path[PATH_SIZE]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    /* The specification wants relative paths ignored. */
    if (cache && cache[0] == '/') length = snprintf(path, PATH_SIZE, "%s", cache);
    else if (home && home[0] == '/') length = snprintf(path, PATH_SIZE, "%s/.cache", home);
    else return false;
    if (length < 0 || length > PATH_SIZE - 160) return false;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return false;
    strcat(path, "/ckpt/");
    return mkdir(path, 0700) == 0 || errno == EEXIST;
}

static bool find_path(char path[PATH_SIZE], const char *kind, const char *device, const char *rest) {
    if (!find_folder(path)) return false;
    const size_t used = strlen(path);
    const int more = snprintf(path + used, PATH_SIZE - used, "%s-%s%s%s.json", kind, device, *rest ? "-" : "", rest);
    return more > 0 && (size_t)more < PATH_SIZE - used;
}

/* An object of this schema, made by this build on this machine; NULL for anything else. */
static json_t *load(const char *path, const char *schema, const char *device) {
    struct stat info;
    char machine[MACHINE_SIZE];
    if (!find_machine(device, machine)) return NULL;
    json_error_t where;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (file < 0) return NULL;
    json_t *root = NULL;
    if (fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= MOST_BYTES)
        root = json_loadfd(file, JSON_REJECT_DUPLICATES, &where);
    close(file);
    const char *name = json_string_value(json_object_get(root, "schema"));
    const char *made_by = json_string_value(json_object_get(root, "build"));
    const char *made_on = json_string_value(json_object_get(root, "machine"));
    if (name && made_by && made_on && strcmp(name, schema) == 0 && strcmp(made_by, build) == 0 && strcmp(made_on, machine) == 0)
        return root;
    json_decref(root);
    return NULL;
}

static ckpt_status store(const char *path, json_t *root, const char *device, ckpt_error *err) {
    char machine[MACHINE_SIZE];
    if (!find_machine(device, machine)) {
        json_decref(root);
        return ckpt_fail(err, CKPT_FAILED, "nothing tells which %s this is", device);
    }
    json_object_set_new(root, "machine", json_string(machine));
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while writing '%s'", path);
    ckpt_atomic_file file;
    ckpt_status status = ckpt_atomic_open(&file, path, err);
    if (status == CKPT_OK) {
        status = ckpt_atomic_write(&file, text, strlen(text), err);
        if (status == CKPT_OK) status = ckpt_atomic_commit(&file, err);
        ckpt_atomic_close(&file);
    }
    free(text);
    return status;
}

static ckpt_status no_folder(ckpt_error *err) {
    return ckpt_fail(err, CKPT_FAILED, "no folder for what was measured: set XDG_CACHE_HOME to one that can be written");
}

/* A positive time or rate; anything else makes the file worthless. */
static bool read_real(const json_t *value, double least, double most, double *to) {
    *to = json_number_value(value);
    return json_is_number(value) && isfinite(*to) && *to >= least && *to <= most;
}

static bool find_rates(const char *device, ckpt_precision precision, char path[PATH_SIZE]) {
    return find_path(path, "device", device, precision == CKPT_PRECISION_FP32 ? "" : ckpt_precision_names[precision]);
}

bool ckpt_cost_cache_rates(const char *device, ckpt_precision precision, ckpt_rates *rates) {
    char path[PATH_SIZE];
    const ckpt_rates *nominal = ckpt_rates_nominal(device, precision);
    json_t *root = nominal && find_rates(device, precision, path) ? load(path, rates_schema, device) : NULL;
    *rates = (ckpt_rates){.device = nominal ? nominal->device : NULL, .precision = precision, .measured = true};
    const bool good = root && read_real(json_object_get(root, "flops_per_second"), 1e6, 1e18, &rates->flops_per_second) &&
                      read_real(json_object_get(root, "bytes_per_second"), 1e6, 1e18, &rates->bytes_per_second) &&
                      read_real(json_object_get(root, "launch_seconds"), 0, 1, &rates->launch_seconds) &&
                      read_real(json_object_get(root, "product_launch_seconds"), 0, 1, &rates->product_launch_seconds);
    json_decref(root);
    return good;
}

ckpt_status ckpt_cost_cache_put_rates(const ckpt_rates *rates, ckpt_error *err) {
    char path[PATH_SIZE];
    if (!find_rates(rates->device, rates->precision, path)) return no_folder(err);
    return store(path,
                 json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "schema", rates_schema, "build", build, "flops_per_second",
                           rates->flops_per_second, "bytes_per_second", rates->bytes_per_second, "launch_seconds",
                           rates->launch_seconds, "product_launch_seconds", rates->product_launch_seconds),
                 rates->device, err);
}

static bool find_profile(const ckpt_profile_key *key, char path[PATH_SIZE]) {
    char rest[96];
    snprintf(rest, sizeof rest, "%.32s-%" PRId64, key->graph_hash, key->threads);
    return find_path(path, "profile", key->device, rest);
}

bool ckpt_cost_cache_profile(const ckpt_profile_key *key, double *seconds) {
    char path[PATH_SIZE];
    json_t *root = find_profile(key, path) ? load(path, profile_schema, key->device) : NULL;
    const json_t *list = json_object_get(root, "seconds");
    const char *hash = json_string_value(json_object_get(root, "graph_hash"));
    bool good = hash && strcmp(hash, key->graph_hash) == 0 && json_is_array(list) &&
                json_array_size(list) == (size_t)key->node_count;
    for (int n = 0; good && n < key->node_count; n++) good = read_real(json_array_get(list, (size_t)n), 0, 4000, &seconds[n]);
    json_decref(root);
    return good;
}

ckpt_status ckpt_cost_cache_put_profile(const ckpt_profile_key *key, const double *seconds, ckpt_error *err) {
    char path[PATH_SIZE];
    if (!find_profile(key, path)) return no_folder(err);
    json_t *list = json_array();
    for (int n = 0; n < key->node_count; n++) json_array_append_new(list, json_real(seconds[n]));
    return store(path,
                 json_pack("{s:s, s:s, s:s, s:o}", "schema", profile_schema, "build", build, "graph_hash", key->graph_hash,
                           "seconds", list),
                 key->device, err);
}

int ckpt_cost_cache_lock(const char *device) {
    char path[PATH_SIZE], machine[MACHINE_SIZE];
    if (!find_machine(device, machine) || !find_folder(path)) return -1;
    strcat(path, "lock");
    const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock >= 0 && flock(lock, LOCK_EX) != 0) {
        close(lock);
        return -1;
    }
    return lock;
}

void ckpt_cost_cache_unlock(int lock) {
    if (lock >= 0) close(lock);
}
