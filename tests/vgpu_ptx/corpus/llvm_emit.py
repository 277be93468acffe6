# Makes llvm/*.ptx: `python llvm_emit.py IN.ll OUT.ptx LEVEL` with llvmlite 0.50 (LLVM 22).
import sys
import llvmlite.binding as llvm

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
source, out, level = sys.argv[1], sys.argv[2], int(sys.argv[3])
machine = llvm.Target.from_triple('nvptx64-nvidia-cuda').create_target_machine(cpu='sm_80', features='+ptx84', opt=level)
module = llvm.parse_assembly(open(source).read())
module.verify()
if level:
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=level))
    builder.getModulePassManager().run(module, builder)
open(out, 'w').write(machine.emit_assembly(module))
