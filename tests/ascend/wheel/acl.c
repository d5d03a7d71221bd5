/* AscendCL out of host memory: devices, memory, copies, streams and events that torch_npu asks CANN's runtime for.
 *
 * Declarations come from the headers that the wheel ships, so that the compiler holds each function against them. What is
 * not written out here answers ACL_ERROR_FEATURE_UNSUPPORTED (see host_acl.py), the launch of every kernel above all: a
 * launch that answers success without computing would let a training run on garbage. Nothing here is evidence about
 * hardware. Every operation is done when its function returns; streams and events only count and read the clock.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "acl/acl.h"
#include "acl/acl_op_compiler.h"
#include "acl/error_codes/rt_error_codes.h"

#define API __attribute__((visibility("default")))
#define ALIGNMENT 512
#define MOST_DEVICES 64
#define MOST_BLOCKS 65536

/* ---- devices ---- */

static __thread int current = -1;

static int devices(void) {
  const char *text = getenv("RECEXP_HOST_NPUS");
  int count = text ? atoi(text) : 2;
  return count < 0 ? 0 : count > MOST_DEVICES ? MOST_DEVICES : count;
}

static size_t capacity(void) {
  const char *text = getenv("RECEXP_HOST_NPU_MB");
  return (size_t)(text ? atoll(text) : 65536) << 20;
}

static int here(void) { return current < 0 ? 0 : current; }

API aclError aclInit(const char *config) { return ACL_SUCCESS; }
API aclError aclFinalize(void) { return ACL_SUCCESS; }
API const char *aclrtGetSocName(void) { return "Ascend910B1"; }
API const char *aclGetRecentErrMsg(void) { return "AscendCL out of host memory has no such function"; }

API aclError aclrtGetDeviceCount(uint32_t *count) {
  *count = (uint32_t)devices();
  return ACL_SUCCESS;
}

API aclError aclrtSetDevice(int32_t device) {
  if (device < 0 || device >= devices()) return ACL_ERROR_RT_INVALID_DEVICEID;
  current = device;
  return ACL_SUCCESS;
}

API aclError aclrtResetDevice(int32_t device) { return ACL_SUCCESS; }

API aclError aclrtGetDevice(int32_t *device) {
  if (current < 0) return ACL_ERROR_RT_CONTEXT_NULL;
  *device = current;
  return ACL_SUCCESS;
}

/* A context is its device's number, plus one. */
API aclError aclrtGetCurrentContext(aclrtContext *context) {
  *context = (aclrtContext)(intptr_t)(here() + 1);
  return ACL_SUCCESS;
}

API aclError aclrtSetCurrentContext(aclrtContext context) {
  current = (int)(intptr_t)context - 1;
  return ACL_SUCCESS;
}

API aclError aclrtGetPrimaryCtxState(int32_t device, uint32_t *flags, int32_t *active) {
  if (flags != NULL) *flags = 0;
  *active = current == device;
  return ACL_SUCCESS;
}

API aclError aclrtDeviceCanAccessPeer(int32_t *can, int32_t device, int32_t peer) {
  *can = 1;
  return ACL_SUCCESS;
}

API aclError aclrtDeviceGetBareTgid(int32_t *pid) {
  *pid = (int32_t)getpid();
  return ACL_SUCCESS;
}

API aclError aclGetDeviceCapability(uint32_t device, aclDeviceInfo info, int64_t *value) {
  *value = 1;
  return ACL_SUCCESS;
}

API aclError aclrtGetDeviceInfo(uint32_t device, aclrtDevAttr attribute, int64_t *value) {
  *value = 24; /* a number of cores */
  return ACL_SUCCESS;
}

/* What a computing chip would be told; there is none. */
#define MOST_OPTIONS 64
static int64_t options[MOST_OPTIONS];

API aclError aclrtSetDeviceSatMode(aclrtFloatOverflowMode mode) { return ACL_SUCCESS; }
API aclError aclrtSetOpWaitTimeout(uint32_t timeout) { return ACL_SUCCESS; }
API aclError aclrtSetOpExecuteTimeOut(uint32_t timeout) { return ACL_SUCCESS; }
API aclError aclrtSetSysParamOpt(aclSysParamOpt option, int64_t value) {
  if ((unsigned)option >= MOST_OPTIONS) return ACL_ERROR_INVALID_PARAM;
  options[option] = value;
  return ACL_SUCCESS;
}
API aclError aclrtGetSysParamOpt(aclSysParamOpt option, int64_t *value) {
  if ((unsigned)option >= MOST_OPTIONS) return ACL_ERROR_INVALID_PARAM;
  *value = options[option];
  return ACL_SUCCESS;
}
API aclError aclrtCtxSetSysParamOpt(aclSysParamOpt option, int64_t value) { return aclrtSetSysParamOpt(option, value); }

/* ---- memory ---- */

typedef struct {
  char *start;
  size_t size;
  int device; /* -1: pinned memory of the host */
} Block;

static Block blocks[MOST_BLOCKS];
static int used_slots;
static size_t held[MOST_DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static aclError take(void **pointer, size_t size, int device) {
  void *start = NULL;
  int slot = 0;
  aclError result = ACL_SUCCESS;
  pthread_mutex_lock(&lock);
  while (slot < used_slots && blocks[slot].start != NULL) slot++;
  if (slot == MOST_BLOCKS || (device >= 0 && held[device] + size > capacity()) ||
      posix_memalign(&start, ALIGNMENT, size ? size : ALIGNMENT) != 0) {
    result = ACL_ERROR_RT_MEMORY_ALLOCATION;
  } else {
    blocks[slot] = (Block){start, size, device};
    if (slot == used_slots) used_slots++;
    if (device >= 0) held[device] += size;
    *pointer = start;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

static aclError give_back(void *pointer) {
  aclError result = pointer == NULL ? ACL_SUCCESS : ACL_ERROR_INVALID_PARAM;
  pthread_mutex_lock(&lock);
  for (int slot = 0; pointer != NULL && slot < used_slots; slot++) {
    if (blocks[slot].start != pointer) continue;
    if (blocks[slot].device >= 0) held[blocks[slot].device] -= blocks[slot].size;
    blocks[slot].start = NULL;
    free(pointer);
    result = ACL_SUCCESS;
    break;
  }
  pthread_mutex_unlock(&lock);
  return result;
}

API aclError aclrtMalloc(void **pointer, size_t size, aclrtMemMallocPolicy policy) { return take(pointer, size, here()); }
API aclError aclrtMallocAlign32(void **pointer, size_t size, aclrtMemMallocPolicy policy) {
  return take(pointer, size, here());
}
API aclError aclrtMallocHost(void **pointer, size_t size) { return take(pointer, size, -1); }
API aclError aclrtMallocHostWithCfg(void **pointer, uint64_t size, aclrtMallocConfig *config) {
  return take(pointer, size, -1);
}
API aclError aclrtFree(void *pointer) { return give_back(pointer); }
API aclError aclrtFreeHost(void *pointer) { return give_back(pointer); }

API aclError aclrtGetMemInfo(aclrtMemAttr attribute, size_t *unused, size_t *total) {
  *total = capacity();
  *unused = *total - held[here()];
  return ACL_SUCCESS;
}

API aclError aclrtPointerGetAttributes(const void *pointer, aclrtPtrAttributes *attributes) {
  memset(attributes, 0, sizeof *attributes);
  attributes->location.type = ACL_MEM_LOCATION_TYPE_UNREGISTERED;
  pthread_mutex_lock(&lock);
  for (int slot = 0; slot < used_slots; slot++) {
    const Block *block = &blocks[slot];
    const char *at = pointer;
    if (block->start == NULL || at < block->start || at >= block->start + block->size) continue;
    attributes->location.type = block->device < 0 ? ACL_MEM_LOCATION_TYPE_HOST : ACL_MEM_LOCATION_TYPE_DEVICE;
    attributes->location.id = block->device < 0 ? 0 : (uint32_t)block->device;
    break;
  }
  pthread_mutex_unlock(&lock);
  return ACL_SUCCESS;
}

static aclError copy(void *to, size_t room, const void *from, size_t count) {
  if (count > room) return ACL_ERROR_INVALID_PARAM;
  memmove(to, from, count);
  return ACL_SUCCESS;
}

API aclError aclrtMemcpy(void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind) {
  return copy(to, room, from, count);
}
API aclError aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind,
                              aclrtStream stream) {
  return copy(to, room, from, count);
}
API aclError aclrtMemcpyAsyncWithCondition(void *to, size_t room, const void *from, size_t count, aclrtMemcpyKind kind,
                                           aclrtStream stream) {
  return copy(to, room, from, count);
}
API aclError aclrtMemset(void *to, size_t room, int32_t value, size_t count) {
  memset(to, value, count);
  return ACL_SUCCESS;
}
API aclError aclrtMemsetAsync(void *to, size_t room, int32_t value, size_t count, aclrtStream stream) {
  memset(to, value, count);
  return ACL_SUCCESS;
}

/* ---- streams and events ---- */

static int streams;

API aclError aclrtCreateStream(aclrtStream *stream) {
  int *made = malloc(sizeof *made);
  *made = __atomic_add_fetch(&streams, 1, __ATOMIC_RELAXED);
  *stream = made;
  return ACL_SUCCESS;
}
API aclError aclrtCreateStreamWithConfig(aclrtStream *stream, uint32_t priority, uint32_t flag) {
  return aclrtCreateStream(stream);
}
API aclError aclrtDestroyStream(aclrtStream stream) {
  free(stream);
  return ACL_SUCCESS;
}
API aclError aclrtDestroyStreamForce(aclrtStream stream) { return aclrtDestroyStream(stream); }
API aclError aclrtSetStreamFailureMode(aclrtStream stream, uint64_t mode) { return ACL_SUCCESS; }
API aclError aclrtStreamGetId(aclrtStream stream, int32_t *id) {
  *id = *(int *)stream;
  return ACL_SUCCESS;
}
API aclError aclrtStreamQuery(aclrtStream stream, aclrtStreamStatus *status) {
  *status = ACL_STREAM_STATUS_COMPLETE;
  return ACL_SUCCESS;
}
API aclError aclrtSynchronizeStream(aclrtStream stream) { return ACL_SUCCESS; }
API aclError aclrtSynchronizeStreamWithTimeout(aclrtStream stream, int32_t timeout) { return ACL_SUCCESS; }
API aclError aclrtSynchronizeDevice(void) { return ACL_SUCCESS; }
API aclError aclrtSynchronizeDeviceWithTimeout(int32_t timeout) { return ACL_SUCCESS; }

API aclError aclrtCreateEventWithFlag(aclrtEvent *event, uint32_t flag) {
  *event = calloc(1, sizeof(struct timespec));
  return ACL_SUCCESS;
}
API aclError aclrtCreateEventExWithFlag(aclrtEvent *event, uint32_t flag) {
  return aclrtCreateEventWithFlag(event, flag);
}
API aclError aclrtDestroyEvent(aclrtEvent event) {
  free(event);
  return ACL_SUCCESS;
}
API aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  clock_gettime(CLOCK_MONOTONIC, event);
  return ACL_SUCCESS;
}
API aclError aclrtQueryEventStatus(aclrtEvent event, aclrtEventRecordedStatus *status) {
  *status = ACL_EVENT_RECORDED_STATUS_COMPLETE;
  return ACL_SUCCESS;
}
API aclError aclrtQueryEventWaitStatus(aclrtEvent event, aclrtEventWaitStatus *status) {
  *status = ACL_EVENT_WAIT_STATUS_COMPLETE;
  return ACL_SUCCESS;
}
API aclError aclrtSynchronizeEvent(aclrtEvent event) { return ACL_SUCCESS; }
API aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) { return ACL_SUCCESS; }
API aclError aclrtResetEvent(aclrtEvent event, aclrtStream stream) { return ACL_SUCCESS; }
API aclError aclrtEventElapsedTime(float *milliseconds, aclrtEvent begin, aclrtEvent end) {
  const struct timespec *a = begin, *b = end;
  *milliseconds = (float)((b->tv_sec - a->tv_sec) * 1e3 + (b->tv_nsec - a->tv_nsec) / 1e6);
  return ACL_SUCCESS;
}

/* ---- options of the operator compiler: kept by nobody, there is no compiler ---- */

API aclError aclSetCompileopt(aclCompileOpt option, const char *value) { return ACL_SUCCESS; }
API size_t aclGetCompileoptSize(aclCompileOpt option) { return 256; }
API aclError aclGetCompileopt(aclCompileOpt option, char *value, size_t length) {
  memset(value, 0, length);
  strncpy(value, option == ACL_PRECISION_MODE ? "must_keep_origin_dtype" : "0", length - 1);
  return ACL_SUCCESS;
}
