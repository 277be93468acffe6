# Makes triton/*.ptx: `python triton_kernels.py OUT [NAME ..]` with Triton 3.9 (no GPU needed).
import os, re, sys
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

@triton.jit
def vector_add(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    tl.store(o + i, tl.load(x + i, mask=m) + tl.load(y + i, mask=m), mask=m)

@triton.jit
def softmax(x, o, stride, n, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    v = tl.load(x + r * stride + c, mask=c < n, other=-float('inf'))
    v = v - tl.max(v, axis=0)
    e = tl.exp(v)
    tl.store(o + r * stride + c, e / tl.sum(e, axis=0), mask=c < n)

@triton.jit
def layer_norm(x, y, w, b, n, eps, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    m = c < n
    v = tl.load(x + r * n + c, mask=m, other=0.).to(tl.float32)
    mean = tl.sum(v, axis=0) / n
    d = tl.where(m, v - mean, 0.)
    var = tl.sum(d * d, axis=0) / n
    z = d * (1 / tl.sqrt(var + eps))
    tl.store(y + r * n + c, z * tl.load(w + c, mask=m) + tl.load(b + c, mask=m), mask=m)

@triton.jit
def matmul(a, b, c, M, N, K, sam, sak, sbk, sbn, scm, scn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, PREC: tl.constexpr):
    pm = tl.program_id(0)
    pn = tl.program_id(1)
    rm = pm * BM + tl.arange(0, BM)
    rn = pn * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    pa = a + rm[:, None] * sam + rk[None, :] * sak
    pb = b + rk[:, None] * sbk + rn[None, :] * sbn
    acc = tl.zeros((BM, BN), dtype=ACC)
    for k in range(0, tl.cdiv(K, BK)):
        ka = rk[None, :] < K - k * BK
        kb = rk[:, None] < K - k * BK
        va = tl.load(pa, mask=ka & (rm[:, None] < M), other=0)
        vb = tl.load(pb, mask=kb & (rn[None, :] < N), other=0)
        acc = tl.dot(va, vb, acc, out_dtype=ACC, input_precision=PREC)
        pa += BK * sak
        pb += BK * sbk
    tl.store(c + rm[:, None] * scm + rn[None, :] * scn, acc, mask=(rm[:, None] < M) & (rn[None, :] < N))

@triton.jit
def column_sum(x, o, M, N, BM: tl.constexpr, BN: tl.constexpr):
    c = tl.program_id(0) * BN + tl.arange(0, BN)
    acc = tl.zeros((BN,), dtype=tl.float32)
    for r in range(0, M, BM):
        rr = r + tl.arange(0, BM)
        v = tl.load(x + rr[:, None] * N + c[None, :], mask=(rr[:, None] < M) & (c[None, :] < N), other=0.)
        acc += tl.sum(v, axis=0)
    tl.store(o + c, acc, mask=c < N)

@triton.jit
def argmax_rows(x, o, v, n, BLOCK: tl.constexpr):
    r = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    val = tl.load(x + r * n + c, mask=c < n, other=-float('inf'))
    best, at = tl.max(val, axis=0, return_indices=True)
    tl.store(o + r, at)
    tl.store(v + r, best)

@triton.jit
def prefix_sum(x, o, n, BLOCK: tl.constexpr):
    c = tl.arange(0, BLOCK)
    r = tl.program_id(0)
    v = tl.load(x + r * n + c, mask=c < n, other=0)
    tl.store(o + r * n + c, tl.cumsum(v, axis=0), mask=c < n)

@triton.jit
def sort_rows(x, o, n, BLOCK: tl.constexpr):
    c = tl.arange(0, BLOCK)
    r = tl.program_id(0)
    v = tl.load(x + r * n + c, mask=c < n, other=2147483647)
    tl.store(o + r * n + c, tl.sort(v), mask=c < n)

@triton.jit
def atomics(x, s, mx, h, cas, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    v = tl.load(x + i, mask=m, other=0.)
    tl.atomic_add(s, tl.sum(v, axis=0))
    tl.atomic_max(mx, tl.max(v, axis=0))
    b = (v.to(tl.int32)) & 15
    tl.atomic_add(h + b, 1, mask=m)
    tl.atomic_cas(cas, 0, 1)

@triton.jit
def philox_dropout(x, o, n, p, seed, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    v = tl.load(x + i, mask=m)
    r = tl.rand(seed, i)
    tl.store(o + i, tl.where(r > p, v / (1 - p), 0.0), mask=m)

@triton.jit
def elementwise(x, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    v = tl.load(x + i, mask=m, other=1.)
    y = tl.sigmoid(v) * tl.log(tl.abs(v) + 1) + tl.sin(v) * tl.cos(v) + tl.rsqrt(tl.abs(v) + 0.5) + tl.exp2(v * 0.25) + tl.erf(v) + tl.floor(v) - tl.ceil(v) + tl.fma(v, v, 0.5) + tl.maximum(v, 0.25) + tl.minimum(v, 0.75)
    tl.store(o + i, y, mask=m)

@triton.jit
def half_ops(x, y, o, q, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    a = tl.load(x + i, mask=m, other=0.)
    b = tl.load(y + i, mask=m, other=0.)
    tl.store(o + i, a * b + a, mask=m)
    tl.store(q + i, (a.to(tl.float32) * 16).to(tl.int8), mask=m)

@triton.jit
def histogram(x, o, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=0)
    h = tl.histogram(v, 64)
    tl.store(o + tl.arange(0, 64), h)

@triton.jit
def transpose(x, o, M, N, B: tl.constexpr):
    r = tl.program_id(0) * B + tl.arange(0, B)
    c = tl.program_id(1) * B + tl.arange(0, B)
    v = tl.load(x + r[:, None] * N + c[None, :], mask=(r[:, None] < M) & (c[None, :] < N), other=0)
    tl.store(o + c[:, None] * M + r[None, :], tl.trans(v), mask=(c[:, None] < N) & (r[None, :] < M))

@triton.jit
def attention(q, k, v, o, scale, T, D: tl.constexpr, B: tl.constexpr):
    r = tl.program_id(0) * B + tl.arange(0, B)
    d = tl.arange(0, D)
    vq = tl.load(q + r[:, None] * D + d[None, :], mask=r[:, None] < T, other=0.)
    mx = tl.full((B,), -float('inf'), tl.float32)
    den = tl.zeros((B,), tl.float32)
    acc = tl.zeros((B, D), tl.float32)
    for s in range(0, T, B):
        c = s + tl.arange(0, B)
        vk = tl.load(k + c[:, None] * D + d[None, :], mask=c[:, None] < T, other=0.)
        vv = tl.load(v + c[:, None] * D + d[None, :], mask=c[:, None] < T, other=0.)
        x = tl.dot(vq, tl.trans(vk)) * scale
        x = tl.where(c[None, :] < T, x, -float('inf'))
        m2 = tl.maximum(mx, tl.max(x, 1))
        p = tl.exp(x - m2[:, None])
        f = tl.exp(mx - m2)
        den = den * f + tl.sum(p, 1)
        acc = acc * f[:, None] + tl.dot(p.to(vv.dtype), vv)
        mx = m2
    tl.store(o + r[:, None] * D + d[None, :], acc / den[:, None], mask=r[:, None] < T)

@triton.jit
def int_ops(x, y, o, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = i < n
    a = tl.load(x + i, mask=m, other=1)
    b = tl.load(y + i, mask=m, other=1)
    r = (a // (b | 1)) ^ (a % (b | 1)) + tl.umulhi(a.to(tl.uint32), b.to(tl.uint32)).to(tl.int32) + (a << 3) - (b >> 2)
    tl.store(o + i, r, mask=m)

JOBS = []
def job(name, fn, sig, const, **opt): JOBS.append((name, fn, sig, const, opt))
P='*fp32'
job('vector_add', vector_add, dict(x=P,y=P,o=P,n='i32'), dict(BLOCK=1024))
job('softmax', softmax, dict(x=P,o=P,stride='i32',n='i32'), dict(BLOCK=1024))
job('layer_norm', layer_norm, dict(x=P,y=P,w=P,b=P,n='i32',eps='fp32'), dict(BLOCK=512))
def mm(name, t, out, acc, prec=None, **kw):
    c = dict(BM=32,BN=32,BK=32,ACC=acc,PREC=prec); c.update(kw.pop('c',{}))
    job(name, matmul, dict(a='*'+t,b='*'+t,c='*'+out,M='i32',N='i32',K='i32',sam='i32',sak='i32',sbk='i32',sbn='i32',scm='i32',scn='i32'), c, **kw)
mm('matmul_f16','fp16','fp32',tl.float32,num_stages=3)
mm('matmul_bf16','bf16','fp32',tl.float32,num_stages=2,num_warps=2,c=dict(BM=16,BN=16))
mm('matmul_tf32','fp32','fp32',tl.float32,'tf32',c=dict(BK=16))
mm('matmul_ieee','fp32','fp32',tl.float32,'ieee',c=dict(BM=16,BN=16,BK=16))
mm('matmul_s8','i8','i32',tl.int32)
job('column_sum', column_sum, dict(x=P,o=P,M='i32',N='i32'), dict(BM=16,BN=64))
job('argmax_rows', argmax_rows, dict(x=P,o='*i32',v=P,n='i32'), dict(BLOCK=256))
job('prefix_sum', prefix_sum, dict(x=P,o=P,n='i32'), dict(BLOCK=512))
job('sort_rows', sort_rows, dict(x='*i32',o='*i32',n='i32'), dict(BLOCK=128))
job('atomics', atomics, dict(x=P,s=P,mx=P,h='*i32',cas='*i32',n='i32'), dict(BLOCK=256))
job('philox_dropout', philox_dropout, dict(x=P,o=P,n='i32',p='fp32',seed='i32'), dict(BLOCK=256))
job('elementwise', elementwise, dict(x=P,o=P,n='i32'), dict(BLOCK=128))
job('half_ops', half_ops, dict(x='*fp16',y='*fp16',o='*fp16',q='*i8',n='i32'), dict(BLOCK=512))
job('half_ops_bf16', half_ops, dict(x='*bf16',y='*bf16',o='*bf16',q='*i8',n='i32'), dict(BLOCK=512))
job('histogram', histogram, dict(x='*i32',o='*i32',n='i32'), dict(BLOCK=512))
job('transpose', transpose, dict(x='*fp16',o='*fp16',M='i32',N='i32'), dict(B=32))
job('attention', attention, dict(q='*fp16',k='*fp16',v='*fp16',o=P,scale='fp32',T='i32'), dict(D=16,B=16), num_warps=1)
job('int_ops', int_ops, dict(x='*i32',y='*i32',o='*i32',n='i32'), dict(BLOCK=256))
# These keep their line tables and debug sections; the others would only grow by them.
LINES = ('vector_add', 'softmax')
if __name__ == '__main__':
    out, only = sys.argv[1], sys.argv[2:]
    for name, fn, sig, const, opt in JOBS:
        if only and name not in only:
            continue
        triton.knobs.compilation.disable_line_info = name not in LINES
        types = {**sig, **{k: 'constexpr' for k in const}}
        source = ASTSource(fn=fn, signature=types, constexprs=const, attrs={})
        kernel = triton.compile(source, target=GPUTarget('cuda', 80, 32), options=dict(ptx_version=84, **opt))
        text = kernel.asm['ptx'].replace(os.path.dirname(triton.__file__), 'triton')
        head, section, debug = text.partition('\t.section')
        text = head + section + re.sub(r' *\t*//.*', '', debug)
        open(f'{out}/{name}.ptx', 'w').write(text)
        print(name, len(text), kernel.metadata.shared, kernel.metadata.num_warps)
