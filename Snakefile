from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "workflow/rules/workarounds.smk"
include: "workflow/rules/scheduler.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/audio.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/joint.smk"
include: "workflow/rules/fusion.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.fuse_systems.output.submission,


rule figures:
    input:
        rules.plot_highpass.output.figure,
        expand(
            rules.plot_strf.output,
            system=DRAWN_SYSTEMS,
            seed=PLAN.seeds()[0],
        ),
