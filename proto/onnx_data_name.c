/* The name of an output's data file. A model and its data are two files and cannot be renamed at once, so the data gets a
 * name that the old model at the output's path does not refer to: until the new model is renamed into place the old one is
 * whole, and after it the new one is. A save that is killed in between leaves a data file that nothing refers to, under the
 * name that the next save chooses. */
#include "proto/onnx_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- All external tensors, in subgraphs and functions too -------------------------------------------- */

static bool collect(ckpt_pool *pool, const ProtobufCMessage *message, onnx_tensor_list *list);

static bool add_external(ckpt_pool *pool, Onnx__TensorProto *tensor, onnx_tensor_list *list) {
    if (tensor->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) return true;
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        list->at = ckpt_pool_grow(pool, list->at, list->count, room, sizeof *list->at);
        if (!list->at) return false;
        list->room = room;
    }
    list->at[list->count++] = tensor;
    return true;
}

static bool collect_field(ckpt_pool *pool, const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                          onnx_tensor_list *list) {
    const char *base = (const char *)message;
    const void *member = base + field->offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = *(const size_t *)(const void *)(base + field->quantifier_offset);
        ProtobufCMessage *const *messages = *(ProtobufCMessage *const *const *)member;
        for (size_t i = 0; i < count; i++)
            if (!collect(pool, messages[i], list)) return false;
        return true;
    }
    /* The members of a oneof share one place; the quantifier holds the number of the one that is there. */
    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
        *(const uint32_t *)(const void *)(base + field->quantifier_offset) != field->id) {
        return true;
    }
    const ProtobufCMessage *inner = *(const ProtobufCMessage *const *)member;
    return !inner || collect(pool, inner, list);
}

/* Recursion is bounded: the scan let no file in that is deeper than CKPT_ONNX_MAX_DEPTH. */
static bool collect(ckpt_pool *pool, const ProtobufCMessage *message, onnx_tensor_list *list) {
    const ProtobufCMessageDescriptor *type = message->descriptor;
    if (type == &onnx__tensor_proto__descriptor) return add_external(pool, (Onnx__TensorProto *)message, list);
    for (unsigned i = 0; i < type->n_fields; i++)
        if (type->fields[i].type == PROTOBUF_C_TYPE_MESSAGE && !collect_field(pool, message, &type->fields[i], list)) return false;
    return true;
}

bool onnx_collect_externals(const ckpt_onnx_file *file, ckpt_pool *pool, onnx_tensor_list *list) {
    *list = (onnx_tensor_list){0};
    return collect(pool, &file->model->base, list);
}

/* ---- The names, and who uses them ------------------------------------------------------------------- */

static bool make_names(ckpt_pool *pool, const char *path, onnx_data_names *names) {
    struct stat st;
    *names = (onnx_data_names){0};
    for (int i = 0; i < ONNX_DATA_NAMES; i++) {
        onnx_data_name *n = &names->at[i];
        n->path = i == 0 ? ckpt_pool_printf(pool, "%s.data", path) : ckpt_pool_printf(pool, "%s.%d.data", path, i);
        if (!n->path) return false;
        n->exists = lstat(n->path, &st) == 0; /* a link is replaced itself, whatever it leads to */
        if (n->exists) n->device = st.st_dev, n->inode = st.st_ino, n->regular = S_ISREG(st.st_mode);
        names->any |= n->exists;
    }
    return true;
}

static onnx_data_name *find_name(onnx_data_names *names, dev_t device, ino_t inode) {
    for (int i = 0; i < ONNX_DATA_NAMES; i++) {
        onnx_data_name *n = &names->at[i];
        if (n->exists && n->device == device && n->inode == inode) return n;
    }
    return NULL;
}

/* The open model, and all that it still reads from. */
static ckpt_status mark_open_model(const ckpt_onnx_file *file, const onnx_tensor_list *externals, onnx_data_names *names,
                                   ckpt_error *err) {
    onnx_data_name *found = find_name(names, onnx_open(file)->device, onnx_open(file)->inode);
    if (found) found->read_from = true;
    for (size_t i = 0; i < externals->count; i++) {
        onnx_external source;
        ckpt_onnx_tensor_info info;
        CKPT_TRY(ckpt_onnx_tensor_describe(file, externals->at[i], &info, err));
        CKPT_TRY(onnx_external_open(file, externals->at[i], info.bytes, &source, err));
        close(source.fd);
        found = find_name(names, source.device, source.inode);
        if (found) found->read_from = true;
    }
    return CKPT_OK;
}

/* Whatever of the names this location could mean to any reader, also to one that follows links. */
static void mark_location(int directory, const char *location, onnx_data_names *names) {
    static const int flags[] = {0, AT_SYMLINK_NOFOLLOW};
    struct stat st;
    for (size_t i = 0; i < 2; i++) {
        onnx_data_name *found = fstatat(directory, location, &st, flags[i]) == 0 ? find_name(names, st.st_dev, st.st_ino) : NULL;
        if (found) found->named = true;
    }
}

/* What the model at `path` refers to, where there is one. What cannot be read may refer to all of them. */
static void mark_old_model(const char *path, ckpt_pool *pool, onnx_data_names *names) {
    struct stat st;
    ckpt_onnx_file *old;
    ckpt_error unsaid;
    onnx_tensor_list externals;
    if (lstat(path, &st) != 0 && errno == ENOENT) return;
    bool known = ckpt_onnx_read(path, &old, &unsaid) == CKPT_OK;
    if (known) {
        known = onnx_collect_externals(old, pool, &externals);
        const char *before = "";
        for (size_t i = 0; known && i < externals.count; i++)
            for (size_t k = 0; k < externals.at[i]->n_external_data; k++) {
                const Onnx__StringStringEntryProto *entry = externals.at[i]->external_data[k];
                if (strcmp(onnx_text(entry->key), "location") != 0 || strcmp(onnx_text(entry->value), before) == 0) continue;
                before = onnx_text(entry->value);
                mark_location(onnx_open(old)->directory_fd, before, names);
            }
        ckpt_onnx_free(old);
    }
    for (int i = 0; i < ONNX_DATA_NAMES && !known; i++) names->at[i].unknown = names->at[i].exists;
}

ckpt_status onnx_data_names_find(const ckpt_onnx_file *file, const onnx_tensor_list *externals, const char *path, ckpt_pool *pool,
                                 onnx_data_names *names, ckpt_error *err) {
    if (!make_names(pool, path, names)) return ckpt_fail(err, CKPT_NOMEM, "%s: out of memory while writing", path);
    if (names->any) {
        CKPT_TRY(mark_open_model(file, externals, names, err));
        mark_old_model(path, pool, names);
    }
    for (int i = 0; i < ONNX_DATA_NAMES && !names->chosen; i++) {
        const onnx_data_name *n = &names->at[i];
        if (!n->read_from && !n->named && !n->unknown) names->chosen = n->path;
    }
    if (names->chosen) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "%s: every name for its external data, to %s, is taken; remove what is not used", path,
                     names->at[ONNX_DATA_NAMES - 1].path);
}

void onnx_data_names_remove_old(const onnx_data_names *names) {
    struct stat st;
    for (int i = 0; i < ONNX_DATA_NAMES; i++) {
        const onnx_data_name *n = &names->at[i];
        const bool ours = n->named && n->regular && !n->read_from && lstat(n->path, &st) == 0 && st.st_dev == n->device &&
                          st.st_ino == n->inode;
        if (ours) unlink(n->path); /* if it stays, the next save writes over it */
    }
}
