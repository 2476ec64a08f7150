// A backend of ggml, beside its own for CPUs, for CPUs with AMX: it computes what is worth it with tiles of BF16.
//
// ggml gives it, by `supports_op`, products with weights of BF16, attention, and what stands between them; all else stays
// with ggml's CPU backend, in the same memory. A call is computed by the thread that asks, as the embedder's contexts
// have one each. `reembed.embedder.tiles` loads this library and registers the backend before contexts are made.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "ggml-backend-impl.h"
#include "ggml.h"
#include "tiles.h"

namespace {

constexpr int ASK_FOR_A_FEATURE = 0x1023, TILE_DATA = 18;  // arch_prctl: ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA

struct alignas(64) Shape {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
};

// All eight registers of this thread hold 16 rows of 64 bytes.
void shape_tiles() {
    Shape shape;
    for (int i = 0; i < 8; i++) {
        shape.bytes[i] = 64;
        shape.rows[i] = tiles::ROWS;
    }
    tiles::written(&shape);
    _tile_loadconfig(&shape);
}

const char * name(ggml_backend_t) { return "tiles"; }

void close(ggml_backend_t backend) {
    delete static_cast<tiles::Room *>(backend->context);
    delete backend;
}

void compute_nodes(ggml_cgraph * graph, tiles::Room & room) {
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        ggml_tensor * node = ggml_graph_node(graph, i);
        if ((node->flags & GGML_TENSOR_FLAG_COMPUTE) == 0 || ggml_is_empty(node)) {
            continue;
        }
        switch (node->op) {
            case GGML_OP_MUL_MAT: tiles::multiply(node->src[0], node->src[1], node, room); break;
            case GGML_OP_FLASH_ATTN_EXT: tiles::attend(node, room); break;
            case GGML_OP_ADD: tiles::add(node->src[0], node->src[1], node); break;
            case GGML_OP_UNARY: tiles::gelu(node->src[0], node); break;
            default: break;  // views
        }
    }
}

ggml_status compute(ggml_backend_t backend, ggml_cgraph * graph) {
    ggml_status status = GGML_STATUS_SUCCESS;
    shape_tiles();
    try {
        compute_nodes(graph, *static_cast<tiles::Room *>(backend->context));
    } catch (const std::bad_alloc &) {  // llama.cpp ends the call; what is thrown through it would end the process
        status = GGML_STATUS_ALLOC_FAILED;
    }
    _tile_release();
    return status;
}

bool plain(const ggml_tensor * tensor) { return tensor->type == GGML_TYPE_F32 && ggml_is_contiguous(tensor); }

bool multiplies(const ggml_tensor * op) {
    const ggml_tensor *w = op->src[0], *x = op->src[1];
    return w->type == GGML_TYPE_BF16 && ggml_is_contiguous(w) && ggml_is_matrix(w) && plain(x) && plain(op) &&
           w->ne[0] % tiles::DEPTH == 0 && w->ne[1] % tiles::ROWS == 0;
}

bool attends(const ggml_tensor * op) {
    const ggml_tensor *q = op->src[0], *k = op->src[1], *v = op->src[2], *mask = op->src[3], *sinks = op->src[4];
    float parameters[3];  // scale, largest bias of ALiBi, soft cap
    memcpy(parameters, op->op_params, sizeof parameters);
    const bool types = q->type == GGML_TYPE_F32 && (k->type == GGML_TYPE_F16 || k->type == GGML_TYPE_F32) && v->type == k->type;
    const bool rows = q->nb[0] == sizeof(float) && k->nb[0] == ggml_type_size(k->type) && v->nb[0] == k->nb[0];
    const bool shapes = q->ne[0] % tiles::DEPTH == 0 && k->ne[0] == q->ne[0] && v->ne[0] == q->ne[0] && q->ne[3] == 1 &&
                        k->ne[3] == 1 && v->ne[3] == 1 && v->ne[2] == k->ne[2] && q->ne[2] % k->ne[2] == 0;
    const bool masked = mask == nullptr || (mask->type == GGML_TYPE_F16 && mask->ne[2] == 1 && mask->ne[3] == 1);
    return types && rows && shapes && masked && sinks == nullptr && parameters[1] == 0 && parameters[2] == 0;
}

bool adds(const ggml_tensor * op) {
    const ggml_tensor *a = op->src[0], *b = op->src[1];
    return plain(a) && plain(b) && plain(op) && a->ne[0] == b->ne[0] && (ggml_nrows(b) == 1 || ggml_are_same_shape(a, b));
}

bool supports_op(ggml_backend_dev_t, const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE: return true;
        case GGML_OP_MUL_MAT: return multiplies(op);
        case GGML_OP_FLASH_ATTN_EXT: return attends(op);
        case GGML_OP_ADD: return adds(op);
        case GGML_OP_UNARY: return ggml_get_unary_op(op) == GGML_UNARY_OP_GELU && plain(op->src[0]) && plain(op);
        default: return false;
    }
}

const char * device_name(ggml_backend_dev_t) { return "tiles"; }
const char * device_description(ggml_backend_dev_t) { return "AMX tiles of BF16"; }
enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_ACCEL; }
void device_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = 0; }
ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t) { return ggml_backend_cpu_buffer_type(); }
bool supports_buffers(ggml_backend_dev_t, ggml_backend_buffer_type_t type) { return ggml_backend_buft_is_host(type); }

ggml_backend_buffer_t mapped(ggml_backend_dev_t, void * place, size_t size, size_t) {
    return ggml_backend_cpu_buffer_from_ptr(place, size);
}

void device_properties(ggml_backend_dev_t device, ggml_backend_dev_props * properties) {
    properties->name = device_name(device);
    properties->description = device_description(device);
    properties->type = device_type(device);
    device_memory(device, &properties->memory_free, &properties->memory_total);
    properties->caps = {};
    properties->caps.buffer_from_host_ptr = true;
    properties->caps.mmap_support = true;
}

ggml_backend_t open(ggml_backend_dev_t device, const char *) {
    static ggml_guid guid = {'r', 'e', 'e', 'm', 'b', 'e', 'd', '.', 't', 'i', 'l', 'e', 's', '.', '0', '1'};
    ggml_backend_i calls = {};
    calls.get_name = name;
    calls.free = close;
    calls.graph_compute = compute;
    return new ggml_backend{&guid, calls, device, new tiles::Room};
}

ggml_backend_device make_device(ggml_backend_reg_t registry) {
    ggml_backend_device found = {};
    found.iface.get_name = device_name;
    found.iface.get_description = device_description;
    found.iface.get_memory = device_memory;
    found.iface.get_type = device_type;
    found.iface.get_props = device_properties;
    found.iface.init_backend = open;
    found.iface.get_buffer_type = buffer_type;
    found.iface.buffer_from_host_ptr = mapped;
    found.iface.supports_op = supports_op;
    found.iface.supports_buft = supports_buffers;
    found.reg = registry;
    return found;
}

ggml_backend_dev_t device(ggml_backend_reg_t registry, size_t) {
    static ggml_backend_device found = make_device(registry);
    return &found;
}

}  // namespace

// Registers the backend, once a process. Returns 0, or 1 where the kernel does not let this process use tiles.
extern "C" __attribute__((visibility("default"))) int reembed_tiles_register(void) {
    if (syscall(SYS_arch_prctl, ASK_FOR_A_FEATURE, TILE_DATA) != 0) {
        return 1;
    }
    static ggml_backend_reg registry = {};
    registry.api_version = GGML_BACKEND_API_VERSION;
    registry.iface.get_name = [](ggml_backend_reg_t) { return "tiles"; };
    registry.iface.get_device_count = [](ggml_backend_reg_t) { return size_t(1); };
    registry.iface.get_device = device;
    registry.iface.get_proc_address = [](ggml_backend_reg_t, const char *) -> void * { return nullptr; };
    ggml_backend_register(&registry);
    return 0;
}
