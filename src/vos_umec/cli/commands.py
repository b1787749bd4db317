"""The commands of `vos-umec` and what each does, as its help tells."""

TRAINER_COMMANDS = {
    "fit": "train on unlabelled video: --config configs/folder.yaml --data.root VIDEOS",
    "validate": "score a checkpoint on the validation sequences, without baselines",
    "test": "score a checkpoint beside baselines: --config configs/davis17.yaml --data.root DAVIS --ckpt_path CKPT",
    "predict": "write masks of a data set: --config configs/ytvos_predict.yaml --data.root YTVOS --ckpt_path CKPT",
}
COMMANDS = {
    "segment": "segment one video from one mask",
    "evaluate": "score a folder of masks as DAVIS 2017 does, or as YouTube-VOS",
    "pack": "check a folder of masks and zip it for a server",
    "prepare": "copy a folder of videos once, so that training reads it many times faster",
    "adapt": "go on training a model for some minutes, on your own unlabelled video",
    "export": "write a trained network as one small file",
    "cluster": "write the pseudo masks that a model gives a folder of videos",
    "demo": "train on made video, segment, score, and show, in minutes",
}
