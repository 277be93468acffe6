// One kernel per family of instruction forms that the virtual GPU knows, through CUDA C++ and inline asm. Needs no header. Every kernel reads `in` (32-bit
// words) and writes `out`, so that nothing is thrown away; `put` numbers the results.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct Out {
    u32* at;
    __device__ void put(u32 v) { *at = v; at += gridDim.x * blockDim.x; }
    __device__ void put(int v) { put((u32)v); }
    __device__ void put(float v) { put(__float_as_uint(v)); }
    __device__ void put(u64 v) { put((u32)v); put((u32)(v >> 32)); }
    __device__ void put(i64 v) { put((u64)v); }
    __device__ void put(double v) { put((u64)__double_as_longlong(v)); }
};

#define ENTER                                             \
    u32 t = blockIdx.x * blockDim.x + threadIdx.x;        \
    Out o = {out + t};                                    \
    u32 a = in[3 * t], b = in[3 * t + 1], c = in[3 * t + 2];
// One instruction with one to three sources, its result put out; `con` is the asm constraint of a result of type `type`.
#define ASM1(type, con, text, x) { type r_; asm volatile(text : "=" con(r_) : con(x)); o.put(wide(r_)); }
#define ASM2(type, con, text, x, y) { type r_; asm volatile(text : "=" con(r_) : con(x), con(y)); o.put(wide(r_)); }
#define ASM3(type, con, text, x, y, z) { type r_; asm volatile(text : "=" con(r_) : con(x), con(y), con(z)); o.put(wide(r_)); }
#define I2(op) ASM2(u32, "r", op " %0, %1, %2;", a, b)
#define I3(op) ASM3(u32, "r", op " %0, %1, %2, %3;", a, b, c)
#define L2(op) ASM2(u64, "l", op " %0, %1, %2;", la, lb)
#define H2(op) ASM2(u16, "h", op " %0, %1, %2;", (u16)a, (u16)b)
#define S16(op) { u16 r_; asm volatile(op " %0, %1, %2;" : "=h"(r_) : "h"((u16)a), "r"(b)); o.put(wide(r_)); }
#define F1(op) ASM1(float, "f", op " %0, %1;", fa)
#define F2(op) ASM2(float, "f", op " %0, %1, %2;", fa, fb)
#define F3(op) ASM3(float, "f", op " %0, %1, %2, %3;", fa, fb, fc)
#define D1(op) ASM1(double, "d", op " %0, %1;", da)
#define D2(op) ASM2(double, "d", op " %0, %1, %2;", da, db)
template <class T> __device__ T wide(T v) { return v; }
__device__ u32 wide(u16 v) { return v; }

extern "C" __global__ void integer(const u32* in, u32* out) {
    ENTER;
    u64 la = (u64)a << 32 | b, lb = (u64)b << 32 | c;
    I2("add.u32"); I2("sub.s32"); I2("mul.lo.u32"); I2("mul.hi.u32"); I2("mul.hi.s32"); I2("add.sat.s32"); I2("sub.sat.s32");
    I2("min.s32"); I2("max.s32"); I2("min.u32"); I2("max.u32"); I2("mul24.lo.s32"); I2("mul24.hi.u32");
    I3("mad.lo.s32"); I3("mad.hi.u32"); I3("mad.hi.s32"); I3("mad.hi.sat.s32"); I3("mad24.lo.u32"); I3("sad.s32"); I3("sad.u32");
    L2("add.s64"); L2("sub.u64"); L2("mul.lo.s64"); L2("mul.hi.u64"); L2("mul.hi.s64"); L2("min.s64"); L2("max.u64");
    H2("add.u16"); H2("sub.s16"); H2("mul.lo.u16"); H2("mul.hi.s16"); H2("min.s16"); H2("max.u16");
    o.put((i64)(int)a * (int)b); o.put((u64)a * b); o.put((i64)(int)a * (int)b + (i64)lb); o.put((u64)a * b + la);
    u32 w; asm volatile("mul.wide.u16 %0, %1, %2;" : "=r"(w) : "h"((u16)a), "h"((u16)b)); o.put(w);
    asm volatile("mad.wide.s16 %0, %1, %2, %3;" : "=r"(w) : "h"((u16)a), "h"((u16)b), "r"(c)); o.put(w);
    o.put(a / (b | 1)); o.put(a % (b | 1)); o.put((int)a / ((int)b | 1)); o.put((int)a % ((int)b | 1));
    o.put(la / (lb | 1)); o.put((i64)la % (i64)(lb | 1));
    o.put(abs((int)a)); o.put(-(int)a); ASM1(u64, "l", "abs.s64 %0, %1;", la) ASM1(u16, "h", "neg.s16 %0, %1;", (u16)a)
    u32 lo, hi, x;
    asm volatile("add.cc.u32 %0, %3, %4;\n\taddc.cc.u32 %1, %4, %5;\n\taddc.u32 %2, %5, 0;" : "=r"(lo), "=r"(hi), "=r"(x) : "r"(a), "r"(b), "r"(c));
    o.put(lo); o.put(hi); o.put(x);
    asm volatile("sub.cc.u32 %0, %3, %4;\n\tsubc.cc.u32 %1, %4, %5;\n\tsubc.u32 %2, %5, 0;" : "=r"(lo), "=r"(hi), "=r"(x) : "r"(a), "r"(b), "r"(c));
    o.put(lo); o.put(hi); o.put(x);
    asm volatile("mad.lo.cc.u32 %0, %2, %3, %4;\n\tmadc.hi.u32 %1, %2, %3, 7;" : "=r"(lo), "=r"(hi) : "r"(a), "r"(b), "r"(c));
    o.put(lo); o.put(hi);
}

extern "C" __global__ void bits(const u32* in, u32* out) {
    ENTER;
    u64 la = (u64)a << 32 | b;
    I2("and.b32"); I2("or.b32"); I2("xor.b32"); I2("shl.b32"); I2("shr.u32"); I2("shr.s32"); I2("shr.b32"); S16("shl.b16"); S16("shr.s16");
    o.put(~a); ASM1(u32, "r", "cnot.b32 %0, %1;", a) o.put(__popc(a)); o.put(__popcll(la)); o.put(__clz(a)); o.put(__clzll(la));
    o.put(__brev(a)); o.put(__brevll(la)); o.put(__ffs(a)); ASM1(u32, "r", "bfind.u32 %0, %1;", a)
    ASM1(u32, "r", "bfind.s32 %0, %1;", a) ASM1(u32, "r", "bfind.shiftamt.u32 %0, %1;", a)
    I3("bfe.u32"); I3("bfe.s32"); I3("shf.l.wrap.b32"); I3("shf.r.wrap.b32"); I3("shf.l.clamp.b32"); I3("shf.r.clamp.b32");
    u64 l; asm volatile("bfe.s64 %0, %1, %2, %3;" : "=l"(l) : "l"(la), "r"(b & 255), "r"(c & 255)); o.put(l);
    u32 r; asm volatile("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(r) : "r"(a), "r"(b), "r"(c & 255), "r"(a >> 24)); o.put(r);
    asm volatile("bfi.b64 %0, %1, %2, %3, %4;" : "=l"(l) : "l"(la), "l"(~la), "r"(c & 255), "r"(b & 255)); o.put(l);
    o.put(__byte_perm(a, b, c)); I3("prmt.b32.f4e"); I3("prmt.b32.b4e"); I3("prmt.b32.rc8"); I3("prmt.b32.ecl"); I3("prmt.b32.ecr"); I3("prmt.b32.rc16");
    asm volatile("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(r) : "r"(a), "r"(b), "r"(c)); o.put(r);
    asm volatile("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(r) : "r"(a), "r"(b), "r"(c)); o.put(r);
    o.put(__dp4a((int)a, (int)b, (int)c)); o.put(__dp4a(a, b, c));
    I3("dp4a.s32.u32"); I3("dp2a.lo.s32.s32"); I3("dp2a.hi.u32.u32");
    asm volatile("szext.wrap.s32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b & 31)); o.put(r);
    asm volatile("bmsk.clamp.b32 %0, %1, %2;" : "=r"(r) : "r"(a & 31), "r"(b & 63)); o.put(r);
    asm volatile("fns.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b & 31), "r"((c & 7) + 1)); o.put(r);
    o.put(__vadd4(a, b)); o.put(__vmaxs2(a, b));
}

extern "C" __global__ void single(const u32* in, u32* out) {
    ENTER;
    float fa = __uint_as_float(a), fb = __uint_as_float(b), fc = __uint_as_float(c);
    F2("add.rn.f32"); F2("add.rz.f32"); F2("add.rm.f32"); F2("add.rp.f32"); F2("add.ftz.f32"); F2("add.sat.f32"); F2("sub.rn.ftz.f32"); F2("sub.f32");
    F2("mul.rn.f32"); F2("mul.rz.f32"); F2("mul.rm.f32"); F2("mul.rp.f32"); F2("mul.rn.ftz.sat.f32");
    F3("fma.rn.f32"); F3("fma.rz.f32"); F3("fma.rm.f32"); F3("fma.rp.f32"); F3("fma.rn.ftz.f32"); F3("fma.rn.sat.f32"); F3("mad.rn.f32");
    F2("div.rn.f32"); F2("div.rz.f32"); F2("div.rm.ftz.f32"); F2("div.rp.f32"); F2("div.full.f32"); F2("div.approx.f32"); F2("div.full.ftz.f32");
    F1("rcp.rn.f32"); F1("rcp.rz.f32"); F1("rcp.approx.f32"); F1("rcp.approx.ftz.f32"); F1("sqrt.rn.f32"); F1("sqrt.rm.f32"); F1("sqrt.approx.f32");
    F1("rsqrt.approx.f32"); F1("rsqrt.approx.ftz.f32"); F1("sin.approx.f32"); F1("cos.approx.ftz.f32"); F1("lg2.approx.f32"); F1("ex2.approx.f32");
    F1("ex2.approx.ftz.f32"); F1("tanh.approx.f32"); F1("abs.f32"); F1("abs.ftz.f32"); F1("neg.f32"); F1("neg.ftz.f32");
    F2("min.f32"); F2("max.f32"); F2("min.NaN.f32"); F2("max.ftz.NaN.f32"); F2("copysign.f32");
    o.put(expf(fa)); o.put(logf(fa)); o.put(sinf(fa)); o.put(powf(fa, fb)); o.put(tanhf(fa)); o.put(erff(fa)); o.put(__expf(fa)); o.put(fmodf(fa, fb));
    u32 p = 0;
#define CMP(op) asm volatile("{.reg .pred q;\n\tsetp." op ".f32 q, %1, %2;\n\tselp.u32 %0, 1, 0, q;}" : "=r"(p) : "f"(fa), "f"(fb)); o.put(p)
    CMP("eq"); CMP("ne"); CMP("lt"); CMP("le"); CMP("gt"); CMP("ge"); CMP("equ"); CMP("neu"); CMP("ltu"); CMP("leu"); CMP("gtu"); CMP("geu");
    CMP("num"); CMP("nan"); CMP("lt.ftz");
    asm volatile("set.gt.u32.f32 %0, %1, %2;" : "=r"(p) : "f"(fa), "f"(fb)); o.put(p);
    asm volatile("{.reg .pred q, s;\n\tsetp.lt.and.f32 q|s, %1, %2, !s;\n\tselp.u32 %0, 3, 4, s;}" : "=r"(p) : "f"(fa), "f"(fb)); o.put((u32)(p >= 3));
    asm volatile("{.reg .pred q;\n\ttestp.subnormal.f32 q, %1;\n\tselp.u32 %0, 1, 0, q;}" : "=r"(p) : "f"(fa)); o.put(p);
    asm volatile("slct.f32.s32 %0, %1, %2, %3;" : "=f"(fc) : "f"(fa), "f"(fb), "r"(c)); o.put(fc);
}

extern "C" __global__ void dual(const u32* in, u32* out) {
    ENTER;
    double da = __hiloint2double(a, b), db = __hiloint2double(b, c);
    D2("add.rn.f64"); D2("add.rz.f64"); D2("sub.rm.f64"); D2("mul.rp.f64"); D2("mul.rn.f64"); D2("div.rn.f64"); D2("div.rz.f64"); D2("min.f64"); D2("max.f64");
    o.put(__fma_rn(da, db, da)); o.put(__fma_rz(da, db, da)); o.put(__fma_rd(da, db, da)); o.put(__fma_ru(da, db, da));
    D1("sqrt.rn.f64"); D1("rcp.rn.f64"); D1("abs.f64"); D1("neg.f64"); D1("rcp.approx.ftz.f64"); D1("rsqrt.approx.f64");
    o.put((u32)(da < db)); o.put((u32)!(da >= db)); o.put((u32)isnan(da)); o.put(exp(da)); o.put(log(da));
}

extern "C" __global__ void half(const u32* in, u32* out) {
    ENTER;
#define P1(op) ASM1(u32, "r", op " %0, %1;", a)
    I2("add.f16x2"); I2("add.rn.ftz.sat.f16x2"); I2("sub.f16x2"); I2("mul.f16x2"); I3("fma.rn.f16x2"); I3("fma.rn.relu.f16x2"); I3("fma.rn.bf16x2");
    I3("fma.rn.relu.bf16x2"); I2("min.f16x2"); I2("max.NaN.f16x2"); I2("min.bf16x2"); P1("neg.f16x2"); P1("abs.f16x2");
    P1("neg.bf16x2"); P1("abs.bf16x2"); P1("tanh.approx.f16x2"); P1("ex2.approx.f16x2");
    H2("add.f16"); H2("sub.rn.f16"); H2("mul.ftz.f16"); H2("min.f16"); H2("max.bf16"); H2("min.NaN.bf16");
    u16 h; asm volatile("{fma.rn.f16 %0,%1,%2,%3;\n}" : "=h"(h) : "h"((u16)a), "h"((u16)b), "h"((u16)c)); o.put((u32)h);
    asm volatile("{fma.rn.bf16 %0,%1,%2,%3;\n}" : "=h"(h) : "h"((u16)a), "h"((u16)b), "h"((u16)c)); o.put((u32)h);
    u32 r;
    // The scopes of cuda_fp16.h: registers without a percent sign, the same names in every one.
    asm volatile("{.reg .f16 low,high;\n  mov.b32 {low,high}, %1;\n  mov.b32 %0, {high,low};}\n" : "=r"(r) : "r"(a)); o.put(r);
    asm volatile("{.reg .f16 low,high;\n  mov.b32 {low,high}, %1;\n  mov.b32 %0, {low,low};}\n" : "=r"(r) : "r"(a)); o.put(r);
    asm volatile("{.reg .pred __$temp3;\n  setp.lt.f16  __$temp3, %1, %2;\n  selp.u32 %0, 1, 0, __$temp3;}" : "=r"(r) : "h"((u16)a), "h"((u16)b)); o.put(r);
    asm volatile("{.reg .pred p, q;\n  setp.gtu.f16x2 p|q, %1, %2;\n  selp.u32 %0, 1, 0, q;}" : "=r"(r) : "r"(a), "r"(b)); o.put(r);
    I2("set.le.f16x2.f16x2"); I2("set.gt.u32.f16x2");
}

extern "C" __global__ void convert(const u32* in, u32* out) {
    ENTER;
    float fa = __uint_as_float(a), fb = __uint_as_float(b);
    double da = __hiloint2double(a, b);
    u64 la = (u64)a << 32 | b, l;
    u32 r; u16 h; float f; double d;
#define FI(op) asm volatile("cvt." op ".f32 %0, %1;" : "=r"(r) : "f"(fa)); o.put(r)
    FI("rni.s32"); FI("rzi.s32"); FI("rmi.s32"); FI("rpi.u32"); FI("rzi.ftz.u32"); FI("rni.sat.s8"); FI("rni.sat.u8"); FI("rzi.s16");
    asm volatile("cvt.rzi.s64.f32 %0, %1;" : "=l"(l) : "f"(fa)); o.put(l);
    asm volatile("cvt.rni.u64.f64 %0, %1;" : "=l"(l) : "d"(da)); o.put(l);
    asm volatile("cvt.rmi.s32.f64 %0, %1;" : "=r"(r) : "d"(da)); o.put(r);
#define IF(op) asm volatile("cvt." op " %0, %1;" : "=f"(f) : "r"(a)); o.put(f)
    IF("rn.f32.s32"); IF("rz.f32.u32"); IF("rm.f32.s32"); IF("rp.f32.u32");
    asm volatile("cvt.rn.f32.u8 %0, %1;" : "=f"(f) : "r"(a)); o.put(f);
    asm volatile("cvt.rn.f32.s64 %0, %1;" : "=f"(f) : "l"(la)); o.put(f);
    asm volatile("cvt.rz.f64.u64 %0, %1;" : "=d"(d) : "l"(la)); o.put(d);
    asm volatile("cvt.rn.f64.s32 %0, %1;" : "=d"(d) : "r"(a)); o.put(d);
    o.put((double)fa); o.put(__double2float_rn(da)); o.put(__double2float_rz(da)); o.put(__double2float_ru(da));
    o.put(rintf(fa)); o.put(floorf(fa)); o.put(ceilf(fa)); o.put(truncf(fa)); o.put(rint(da)); o.put(__saturatef(fa));
#define FH(op) asm volatile("cvt." op " %0, %1;" : "=h"(h) : "f"(fa)); o.put((u32)h)
    FH("rn.f16.f32"); FH("rz.f16.f32"); FH("rn.relu.f16.f32"); FH("rn.ftz.f16.f32"); FH("rn.bf16.f32"); FH("rz.bf16.f32"); FH("rn.sat.f16.f32");
#define FF(op) asm volatile("cvt." op " %0, %1, %2;" : "=r"(r) : "f"(fa), "f"(fb)); o.put(r)
    FF("rn.f16x2.f32"); FF("rz.f16x2.f32"); FF("rn.relu.f16x2.f32"); FF("rn.bf16x2.f32"); FF("rz.relu.bf16x2.f32");
    asm volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(fa)); o.put(r);
    asm volatile("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"((u16)a)); o.put(f);
    asm volatile("cvt.f32.bf16 %0, %1;" : "=f"(f) : "h"((u16)a)); o.put(f);
    asm volatile("cvt.f64.f16 %0, %1;" : "=d"(d) : "h"((u16)a)); o.put(d);
    asm volatile("cvt.rn.f16.f64 %0, %1;" : "=h"(h) : "d"(da)); o.put((u32)h);
    asm volatile("cvt.rni.s32.f16 %0, %1;" : "=r"(r) : "h"((u16)a)); o.put(r);
    asm volatile("cvt.rn.f16.s32 %0, %1;" : "=h"(h) : "r"(a)); o.put((u32)h);
    asm volatile("cvt.rzi.f16.f16 %0, %1;" : "=h"(h) : "h"((u16)a)); o.put((u32)h);
    o.put((int)(signed char)a); o.put((int)(short)a); o.put((i64)(int)a); o.put((u64)a); o.put((u32)(u8)la);
    asm volatile("cvt.sat.s8.s32 %0, %1;" : "=r"(r) : "r"(a)); o.put(r);
    asm volatile("cvt.sat.u16.s32 %0, %1;" : "=h"(h) : "r"(a)); o.put((u32)h);
    asm volatile("cvt.sat.u32.s64 %0, %1;" : "=r"(r) : "l"(la)); o.put(r);
    asm volatile("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c)); o.put(r);
}

extern "C" __global__ void warp(const u32* in, u32* out) {
    ENTER;
    u32 r; u32 all = 0xffffffff;
    o.put(__shfl_sync(all, a, b)); o.put(__shfl_up_sync(all, a, 3)); o.put(__shfl_down_sync(all, a, 5, 16)); o.put(__shfl_xor_sync(all, a, 9, 8));
    asm volatile("{.reg .pred q;\n\tshfl.sync.down.b32 %0|q, %1, 7, 0x181f, -1;\n\t@!q mov.u32 %0, 77;}" : "=r"(r) : "r"(a)); o.put(r);
    o.put(__shfl_sync(all, (u64)a << 32 | b, 4)); o.put(__ballot_sync(all, a & 1)); o.put(__all_sync(all, a)); o.put(__any_sync(all, a == 5));
    asm volatile("{.reg .pred p, q;\n\tsetp.ne.u32 p, %1, 0;\n\tvote.sync.uni.pred q, p, 0xffffffff;\n\tselp.u32 %0, 1, 0, q;}" : "=r"(r) : "r"(a & 1)); o.put(r);
    o.put(__match_any_sync(all, a & 3)); int pr; o.put(__match_all_sync(all, a & 3, &pr)); o.put(pr); o.put(__match_any_sync(all, (u64)(b & 1)));
    o.put(__reduce_add_sync(all, a)); o.put(__reduce_min_sync(all, (int)a)); o.put(__reduce_max_sync(all, a)); o.put(__reduce_and_sync(all, a));
    o.put(__reduce_or_sync(all, a)); o.put(__reduce_xor_sync(all, a)); o.put(__activemask());
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(r)); o.put(r); asm volatile("mov.u32 %0, %%lanemask_lt;" : "=r"(r)); o.put(r);
    asm volatile("mov.u32 %0, %%lanemask_ge;" : "=r"(r)); o.put(r); asm volatile("mov.u32 %0, %%lanemask_eq;" : "=r"(r)); o.put(r);
    asm volatile("mov.u32 %0, %%nctaid.z;" : "=r"(r)); o.put(r); asm volatile("mov.u32 %0, WARP_SZ;" : "=r"(r)); o.put(r);
    if (threadIdx.x & 1) { __syncwarp(0xaaaaaaaa); o.put(__shfl_xor_sync(0xaaaaaaaa, a, 2)); } else { o.put(__ballot_sync(0x55555555, b & 2)); }
    __syncwarp();
}

__constant__ u32 table[8] = {3, 1, 4, 1, 5, 9, 2, 6};
__device__ u32 counter = 5;
__device__ const u32* pointer = table + 2;

extern "C" __global__ void memory(const u32* in, u32* out) {
    ENTER;
    extern __shared__ __align__(16) u8 dynamic[];
    __shared__ u32 fixed[128];
    u32 local[8]; u32 r, s, q, w; u64 l;
    for (int i = 0; i < 8; i++) local[(a + i) & 7] = b + i;
    o.put(local[c & 7]); o.put(table[a & 7]); o.put(counter); o.put(*pointer);
    fixed[threadIdx.x] = a; ((u16*)dynamic)[threadIdx.x] = (u16)b;
    __syncthreads();
    o.put(fixed[threadIdx.x ^ 1]); o.put((u32)((u16*)dynamic)[threadIdx.x ^ 1]); o.put((int)((signed char*)fixed)[threadIdx.x & 63]);
    const u32* p = (a & 1) ? fixed : local; o.put(p[a & 7]); o.put((u32)__isShared(p)); o.put((u32)__isLocal(p)); o.put((u32)__isGlobal(in));
    uint4 v = ((const uint4*)in)[0]; o.put(v.x + v.w); uint2 v2 = __ldg((const uint2*)in); o.put(v2.y); o.put(__ldcg(in)); o.put(__ldcs(in + 1));
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(r), "=r"(s), "=r"(q), "=r"(w) : "l"(in)); o.put(r ^ s ^ q ^ w);
    asm volatile("ld.global.s8 %0, [%1+1];" : "=r"(r) : "l"(in)); o.put(r); asm volatile("ld.global.s16 %0, [%1+2];" : "=l"(l) : "l"(in)); o.put(l);
    asm volatile("ld.volatile.global.u32 %0, [%1];" : "=r"(r) : "l"(in)); o.put(r); asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(r) : "l"(in)); o.put(r);
    asm volatile("ld.acquire.sys.u32 %0, [%1];" : "=r"(r) : "l"(in)); o.put(r); asm volatile("ldu.global.u32 %0, [%1];" : "=r"(r) : "l"(in)); o.put(r);
    asm volatile("prefetch.global.L2 [%0];" ::"l"(in)); asm volatile("st.global.wt.u32 [%0], %1;" ::"l"(o.at), "r"(c) : "memory"); o.at += gridDim.x * blockDim.x;
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(o.at), "r"(b) : "memory"); o.at += gridDim.x * blockDim.x;
    asm volatile("{.reg .b64 pol;\n\tcreatepolicy.fractional.L2::evict_first.b64 pol, 1.0;\n\tld.global.L2::cache_hint.u32 %0, [%1], pol;}" : "=r"(r) : "l"(in)); o.put(r);
    __threadfence(); __threadfence_block(); __threadfence_system(); asm volatile("fence.acq_rel.gpu;"); asm volatile("fence.sc.cta;"); o.put(1u);
}

extern "C" __global__ void atomic(const u32* in, u32* out, u32* cells, float* floats, double* doubles, u64* longs) {
    ENTER;
    u64 l; float f;
    atomicAdd(cells, a); atomicSub(cells, b); atomicMin((int*)cells + 1, (int)a); atomicMax((int*)cells + 2, (int)a); atomicMin(cells + 3, a); atomicMax(cells + 4, b);
    atomicAnd(cells + 5, a); atomicOr(cells + 6, a); atomicXor(cells + 7, a); atomicInc(cells + 8, 1000); atomicDec(cells + 9, 1000);
    atomicAdd(floats, (float)(a & 15)); atomicAdd(doubles, (double)(b & 15)); atomicAdd(longs, (u64)c); atomicMax(longs + 1, (u64)a << 20); atomicCAS(longs + 2, 0ull, 9ull);
    if (t == 0) { o.put(atomicExch(cells + 10, 5)); o.put(atomicCAS(cells + 11, 0, 8)); } else { o.put(0u); o.put(0u); }
    __shared__ u32 s[2]; if (threadIdx.x < 2) s[threadIdx.x] = 0; __syncthreads();
    atomicAdd(s, a & 7); atomicAdd_block(s + 1, 1); __syncthreads(); o.put(s[0]); o.put(s[1]);
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(cells + 12), "r"(a) : "memory");
    asm volatile("atom.acq_rel.gpu.global.exch.b64 %0, [%1], %2;" : "=l"(l) : "l"(longs + 3), "l"(7ull) : "memory");
    asm volatile("red.global.add.noftz.f16x2 [%0], %1;" ::"l"(cells + 13), "r"(0x3c003c00) : "memory");
    asm volatile("atom.global.min.s64 %0, [%1], %2;" : "=l"(l) : "l"(longs + 4), "l"((u64)a) : "memory");
    o.put((u32)(l < 8));
    if (t == 99999999) { asm volatile("atom.global.add.f32 %0, [%1], %2;" : "=f"(f) : "l"(floats + 1), "f"(1.0f)); u16 h; asm volatile("atom.global.cas.b16 %0, [%1], %2, %3;" : "=h"(h) : "l"(cells), "h"((u16)1), "h"((u16)2)); o.put(f); }
}

extern "C" __global__ void barrier(const u32* in, u32* out) {
    ENTER;
    __shared__ u32 s[128]; u32 r;
    s[threadIdx.x] = a; __syncthreads(); o.put(s[(threadIdx.x * 7) & (blockDim.x - 1)]);
    o.put(__syncthreads_count(a & 1)); o.put(__syncthreads_and(a | 1)); o.put(__syncthreads_or(a == 3));
    if (threadIdx.x < 32) { s[threadIdx.x] = b; asm volatile("bar.arrive 1, 64;" ::: "memory"); o.put(0u); }
    else if (threadIdx.x < 64) { asm volatile("bar.sync 1, 64;" ::: "memory"); o.put(s[threadIdx.x - 32]); }
    else { asm volatile("barrier.sync.aligned 2, %0;" ::"r"(blockDim.x - 64) : "memory"); o.put(1u); }
    asm volatile("{.reg .pred p, q;\n\tsetp.ne.u32 p, %1, 0;\n\tbarrier.cta.red.or.aligned.pred q, 0, p;\n\tselp.u32 %0, 1, 0, q;}" : "=r"(r) : "r"(a & 1)); o.put(r);
}

extern "C" __global__ void copy(const u32* in, u32* out) {
    ENTER;
    __shared__ __align__(16) u32 s[2][128 * 4];
    u32 to = (u32)__cvta_generic_to_shared(&s[0][threadIdx.x * 4]), to2 = (u32)__cvta_generic_to_shared(&s[1][threadIdx.x * 4]);
    const u32* from = in + (t & 7) * 4;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n\tcp.async.commit_group;" ::"r"(to), "l"(from) : "memory");
    asm volatile("cp.async.ca.shared.global.L2::128B [%0], [%1], 8;" ::"r"(to2), "l"(from) : "memory");
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to2 + 8), "l"(from + 1), "r"(t & 1 ? 4 : 0) : "memory");
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, 0;\n\tcp.async.commit_group;" ::"r"(to2 + 12), "l"(from) : "memory");
    asm volatile("cp.async.wait_group 1;" ::: "memory"); o.put(s[0][threadIdx.x * 4 + 3]);
    asm volatile("cp.async.wait_all;" ::: "memory"); __syncthreads(); o.put(s[1][threadIdx.x ^ 4]);
}

__device__ __noinline__ u32 twice(u32 x, u32* side) { *side = x ^ 5; return x * 2; }
struct Four { u32 x[4]; };
__device__ __noinline__ Four spread(Four f, double k) { for (int i = 0; i < 4; i++) f.x[i] = f.x[3 - i] + (u32)k; return f; }

extern "C" __global__ void control(const u32* in, u32* out) {
    ENTER;
    u32 side, r = 0;
    o.put(twice(a, &side)); o.put(side);
    Four f = {{a, b, c, t}}; f = spread(f, 3.0); o.put(f.x[0]); o.put(f.x[3]);
    switch (a & 7) { case 0: r = b; break; case 1: r = b * 3; break; case 2: r = c / 3; break; case 3: r = b ^ c; break; case 4: r = b - c; break; case 5: r = b & c; break; case 6: r = 9; break; default: r = ~b; }
    o.put(r);
    for (u32 i = 0; i < (a & 15); i++) { if ((i ^ b) & 3) continue; if (i > 11) break; r += i * c; }
    o.put(r);
    asm volatile("{.reg .pred p;\n\tsetp.gt.u32 p, %1, 7;\n\t@p bra $over_%=;\n\tadd.u32 %0, %0, 1;\n$over_%=:\n\tadd.u32 %0, %0, 2;}" : "+r"(r) : "r"(a & 15)); o.put(r);
    asm volatile("{.reg .b32 i;\n\tand.b32 i, %1, 3;\n$table_%=: .branchtargets $z_%=, $y_%=, $x_%=, $w_%=;\n\tbrx.idx i, $table_%=;\n$z_%=: mov.u32 %0, 10;\n\tbra.uni $w_%=;\n"
                 "$y_%=: mov.u32 %0, 11;\n\tbra.uni $w_%=;\n$x_%=: mov.u32 %0, 12;\n$w_%=: add.u32 %0, %0, 1;}" : "+r"(r) : "r"(b)); o.put(r);
    if ((a & 31) == 31) return;
    o.put(1u);
}
