#include "cuda/cuda_algorithms.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/atomic_file.h"
#include "base/sha256.h"

typedef struct known_choice {
    struct known_choice *next;
    ckpt_cuda_choice choice;
} known_choice;

struct ckpt_cuda_algorithms {
    ckpt_cuda_algorithms *next;
    int users;
    char identity[CKPT_CUDA_IDENTITY];
    known_choice *first;
    int added; /* since the last save */
};

/* The file: head, choices, 64 hexadecimal digits. */
typedef struct file_head {
    char magic[8];
    uint32_t choice_bytes, count; /* the layout of this build */
    char identity[CKPT_CUDA_IDENTITY];
} file_head;

enum { MOST_CHOICES = 65536, DIGITS = 64, PATH_BYTES = 4096 };
static const char magic[8] = "ckptalg1";

/* Those that are open, one an identity: two devices that are open at once, as with --verify, must agree whether there is a
 * place for a file or not. */
static ckpt_cuda_algorithms *open_ones;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list and of what is in it */

/* Makes the folders where they are missing. False: there is no place for a file. */
static bool find_path(const ckpt_cuda_algorithms *known, bool create, char path[PATH_BYTES]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char digits[DIGITS + 1];
    ckpt_sha256 hash;
    int used;
    if (cache && *cache == '/') used = snprintf(path, PATH_BYTES, "%s", cache);
    else if (home && *home == '/') used = snprintf(path, PATH_BYTES, "%s/.cache", home);
    else return false;
    if (used < 0 || used > PATH_BYTES - 128) return false;
    if (create) mkdir(path, 0700);
    used += snprintf(path + used, 128, "/ckpt");
    if (create) mkdir(path, 0700);
    ckpt_sha256_start(&hash);
    ckpt_sha256_add(&hash, known->identity, strlen(known->identity));
    ckpt_sha256_hex(&hash, digits);
    snprintf(path + used, 100, "/algorithms-%.16s.bin", digits);
    return true;
}

static void hash_file(const file_head *head, const ckpt_cuda_choice *choice, char digits[DIGITS + 1]) {
    ckpt_sha256 hash;
    ckpt_sha256_start(&hash);
    ckpt_sha256_add(&hash, head, sizeof *head);
    ckpt_sha256_add(&hash, choice, sizeof *choice * head->count);
    ckpt_sha256_hex(&hash, digits);
}

static known_choice *find(const ckpt_cuda_algorithms *known, const ckpt_cuda_key *key) {
    for (known_choice *c = known->first; c; c = c->next)
        if (memcmp(&c->choice.key, key, sizeof *key) == 0) return c;
    return NULL;
}

static known_choice *put(ckpt_cuda_algorithms *known, const ckpt_cuda_choice *choice) {
    known_choice *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->choice = *choice;
    c->next = known->first;
    known->first = c;
    return c;
}

/* Takes over what the file holds and is not known yet. */
static void read_open_file(ckpt_cuda_algorithms *known, FILE *file) {
    file_head head;
    char stored[DIGITS], digits[DIGITS + 1];
    if (fread(&head, sizeof head, 1, file) != 1 || memcmp(head.magic, magic, sizeof magic) != 0 ||
        head.choice_bytes != sizeof(ckpt_cuda_choice) || head.count > MOST_CHOICES ||
        memcmp(head.identity, known->identity, sizeof head.identity) != 0)
        return;
    ckpt_cuda_choice *choice = calloc((size_t)head.count + 1, sizeof *choice);
    if (!choice) return;
    if (fread(choice, sizeof *choice, head.count, file) == head.count && fread(stored, sizeof stored, 1, file) == 1 &&
        fgetc(file) == EOF) {
        hash_file(&head, choice, digits);
        for (uint32_t i = 0; i < head.count && memcmp(stored, digits, sizeof stored) == 0; i++)
            if (!find(known, &choice[i].key) && !put(known, &choice[i])) break;
    }
    free(choice);
}

static void read_file(ckpt_cuda_algorithms *known) {
    char path[PATH_BYTES];
    struct stat info;
    if (!find_path(known, false, path) || stat(path, &info) != 0 || !S_ISREG(info.st_mode)) return;
    FILE *file = fopen(path, "rbe");
    if (!file) return;
    read_open_file(known, file);
    fclose(file);
}

ckpt_cuda_algorithms *ckpt_cuda_algorithms_open(const char *identity) {
    pthread_mutex_lock(&lock);
    ckpt_cuda_algorithms *known = open_ones;
    while (known && strcmp(known->identity, identity) != 0) known = known->next;
    if (!known && (known = calloc(1, sizeof *known))) {
        snprintf(known->identity, sizeof known->identity, "%s", identity);
        known->next = open_ones;
        open_ones = known;
        read_file(known);
    }
    if (known) known->users++;
    pthread_mutex_unlock(&lock);
    return known;
}

void ckpt_cuda_algorithms_close(ckpt_cuda_algorithms *known) {
    if (!known) return;
    pthread_mutex_lock(&lock);
    const bool last = --known->users == 0;
    for (ckpt_cuda_algorithms **link = &open_ones; last && *link; link = &(*link)->next)
        if (*link == known) {
            *link = known->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    if (!last) return;
    for (known_choice *c = known->first, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(known);
}

const ckpt_cuda_choice *ckpt_cuda_algorithms_find(const ckpt_cuda_algorithms *known, const ckpt_cuda_key *key) {
    pthread_mutex_lock(&lock);
    const known_choice *c = find(known, key);
    pthread_mutex_unlock(&lock);
    return c ? &c->choice : NULL;
}

const ckpt_cuda_choice *ckpt_cuda_algorithms_add(ckpt_cuda_algorithms *known, const ckpt_cuda_choice *choice) {
    pthread_mutex_lock(&lock);
    known_choice *c = find(known, &choice->key);
    if (c) c->choice = *choice;
    else c = put(known, choice);
    if (c) known->added++;
    pthread_mutex_unlock(&lock);
    return c ? &c->choice : NULL;
}

static void save(ckpt_cuda_algorithms *known) {
    file_head head = {.choice_bytes = sizeof(ckpt_cuda_choice)};
    char path[PATH_BYTES], digits[DIGITS + 1];
    ckpt_atomic_file file;
    ckpt_error err; /* nothing is lost but time: not told */
    if (!find_path(known, true, path)) return;
    read_file(known);
    for (const known_choice *c = known->first; c && head.count < MOST_CHOICES; c = c->next) head.count++;
    ckpt_cuda_choice *choice = calloc((size_t)head.count + 1, sizeof *choice);
    if (!choice) return;
    const known_choice *c = known->first;
    for (uint32_t i = 0; i < head.count; i++, c = c->next) choice[i] = c->choice;
    memcpy(head.magic, magic, sizeof magic);
    memcpy(head.identity, known->identity, sizeof head.identity);
    hash_file(&head, choice, digits);
    if (ckpt_atomic_open(&file, path, &err) == CKPT_OK) {
        if (ckpt_atomic_write(&file, &head, sizeof head, &err) == CKPT_OK &&
            ckpt_atomic_write(&file, choice, sizeof *choice * head.count, &err) == CKPT_OK &&
            ckpt_atomic_write(&file, digits, DIGITS, &err) == CKPT_OK)
            (void)ckpt_atomic_commit(&file, &err);
        ckpt_atomic_close(&file);
    }
    free(choice);
}

void ckpt_cuda_algorithms_save(ckpt_cuda_algorithms *known) {
    pthread_mutex_lock(&lock);
    if (known->added) save(known);
    known->added = 0;
    pthread_mutex_unlock(&lock);
}
