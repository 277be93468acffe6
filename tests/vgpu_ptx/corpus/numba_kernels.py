# Makes nvvm/*.ptx: `python numba_kernels.py OUT` with numba-cuda 0.30 and libNVVM 12.9, CUDA_HOME at the folder that holds nvvm/ (no GPU needed).
# Names are shortened and `.version` lowered to 8.4, which has all that they use.
import re, sys
from numba import cuda, float32, int32, float64

def saxpy(a, x, y):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = a * x[i] + y[i]
def matmul(a, b, c):
    s = cuda.shared.array((16, 16), float32); t = cuda.shared.array((16, 16), float32)
    x, y = cuda.grid(2)
    tx = cuda.threadIdx.x; ty = cuda.threadIdx.y
    acc = float32(0)
    for k in range((a.shape[1] + 15) // 16):
        s[ty, tx] = 0; t[ty, tx] = 0
        if y < a.shape[0] and tx + k * 16 < a.shape[1]: s[ty, tx] = a[y, tx + k * 16]
        if x < b.shape[1] and ty + k * 16 < b.shape[0]: t[ty, tx] = b[ty + k * 16, x]
        cuda.syncthreads()
        for j in range(16): acc += s[ty, j] * t[j, tx]
        cuda.syncthreads()
    if y < c.shape[0] and x < c.shape[1]: c[y, x] = acc
def mandel(img, x0, y0, dx, limit):
    i, j = cuda.grid(2)
    if i < img.shape[0] and j < img.shape[1]:
        c = complex(x0 + j * dx, y0 + i * dx); z = 0j; n = 0
        while n < limit and z.real * z.real + z.imag * z.imag < 4.0:
            z = z * z + c; n += 1
        img[i, j] = n
def hist(x, h):
    i = cuda.grid(1)
    if i < x.size: cuda.atomic.add(h, x[i] % h.size, 1)
def stats(x, out):
    i = cuda.grid(1)
    v = x[i] if i < x.size else 0.0
    for d in (16, 8, 4, 2, 1): v += cuda.shfl_down_sync(0xffffffff, v, d)
    if cuda.laneid == 0:
        cuda.atomic.add(out, 0, v); cuda.atomic.max(out, 1, v)
    m = cuda.ballot_sync(0xffffffff, x[i % x.size] > 0)
    if cuda.laneid == 0: cuda.atomic.add(out, 2, float64(cuda.popc(m)))
def ints(x, y, z):
    i = cuda.grid(1)
    if i < x.size: z[i] = x[i] // y[i] + x[i] % y[i] + (x[i] >> 3) - cuda.clz(x[i]) + cuda.brev(y[i])
def local_sort(x):
    a = cuda.local.array(8, int32); t = cuda.grid(1)
    for k in range(8): a[k] = x[t, k]
    for k in range(8):
        for j in range(7 - k):
            if a[j] > a[j + 1]: a[j], a[j + 1] = a[j + 1], a[j]
    for k in range(8): x[t, k] = a[k]
f1=float32[::1]; f2=float32[:,::1]; d1=float64[::1]; i1=int32[::1]; i2=int32[:,::1]
J=[(saxpy,(float32,f1,f1)),(matmul,(f2,f2,f2)),(mandel,(i2,float64,float64,float64,int32)),(hist,(i1,i1)),(stats,(d1,d1)),(ints,(i1,i1,i1)),(local_sort,(i2,))]
for function, types in J:
    text, _ = cuda.compile_ptx(function, types, cc=(8, 0))
    name = function.__name__
    text = re.sub(r'_ZN8__main__\d+' + name + r'B\w+?(?=_param|\b)', name, text)
    text = re.sub(r'_ZN08NumbaEnv8__main__\w+', 'environment', text)
    text = re.sub(r'_ZZN8__main__\d+' + name + r'\w+?(_?)(__cuda|_cudapy|E)', r'static_\2', text)
    text = text.replace('.version 8.8', '.version 8.4')
    open(f'{sys.argv[1]}/{name}.ptx', 'w').write(text)
