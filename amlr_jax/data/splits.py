"""The KITTI splits of the literature, as frame numbers, not copies of lists.

Train and test of Eigen et al. (NIPS 2014) as used by BTS, GLPDepth, MIM-Depth and
AMLR: 23,158 training frames (all frames 5 .. N-6 of 33 drives of N frames: KITTI's
annotated depth has none for the first and last five) and 697 test frames of 28 other
drives, of which 45 have no annotated depth, so that 652 are evaluated.
"""

# date -> "drive:N", N = number of frames in the synchronised drive.
_EIGEN_TRAIN = {
    "2011_09_26": """
        0001:108 0005:154 0011:233 0014:314 0015:297 0017:114 0018:270
        0019:481 0022:800 0028:430 0032:390 0035:131 0039:395 0051:438
        0057:361 0060:78 0061:703 0070:420 0079:100 0087:729 0091:340
        0095:268 0104:312 0113:87
    """,
    "2011_09_28": "0001:106",
    "2011_09_29": "0004:339 0026:158",
    "2011_09_30": "0020:1104 0028:5177 0033:1594 0034:1224",
    "2011_10_03": "0034:4663 0042:1170",
}

# date -> "drive:frames"; "0-20/5" is 0, 5, 10, 15, 20.
_EIGEN_TEST = {
    "2011_09_26": """
        0002:0-63/3,69-75/3
        0009:0-176/16,196-388/16
        0013:0-10/5,20,30-50/5,60-70/5,80-140/5
        0020:0-21/3,27,33,36,42-78/3,84
        0023:18-216/18,252-468/18
        0027:0-98/7,112-147/7,161-182/7
        0029:0-196/14,268,296-408/14
        0036:0-704/32,768,800
        0046:0-120/5
        0048:0-21/1
        0052:0-22/2,26-32/2,36-52/2
        0056:11-121/11,143-286/11
        0059:0-154/14,182-238/14,274-372/14
        0064:0-110/22,154-550/22
        0084:49-153/13,179-374/13
        0086:7-520/27,574-682/27
        0093:0-256/16,305-417/16
        0096:0-456/19
        0101:80-216/34,284-930/34
        0106:15,35-219/8
        0117:0-494/26,546-650/26
    """,
    "2011_09_28": "0002:0-12/3,18-24/3,30-39/3,45-63/3,72,78-90/3",
    "2011_09_29": "0071:0-612/36,735-807/36,879-951/36,1054",
    "2011_09_30": """
        0016:0-88/11,110-275/11
        0018:0-214/107,428-2247/107,2419-2740/107
        0027:0-656/41,753-958/41,1040,1081
    """,
    "2011_10_03": """
        0027:0-543/181,734-2001/181,2363-4535/181
        0047:0-224/32,288-800/32
    """,
}

# Of the 45 test frames without annotated depth (697 - 45 = 652), those at the end of a
# drive; the others are the first five of one.
_UNANNOTATED_END = {
    "2011_09_26": """
        0002:72,75 0013:140 0020:84 0036:800 0046:120 0048:17-21 0059:372
    """,
    "2011_09_29": "0071:1054",
    "2011_09_30": "0016:275",
}


def eigen_train() -> dict[str, list[int]]:
    """Drive name -> its training frames; 23,158 in total."""
    rows = _rows(_EIGEN_TRAIN).items()
    return {drive: list(range(5, int(count) - 5)) for drive, count in rows}


def eigen_test(*, with_depth: bool = True) -> dict[str, list[int]]:
    """Drive name -> its test frames: 652 with annotated depth, else all 697."""
    frames = {drive: _frames(text) for drive, text in _rows(_EIGEN_TEST).items()}
    if not with_depth:
        return frames
    late = {drive: _frames(text) for drive, text in _rows(_UNANNOTATED_END).items()}
    return {
        drive: [n for n in numbers if n >= 5 and n not in late.get(drive, ())]
        for drive, numbers in frames.items()
    }


def kitti_split(name: str) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Train and test frames by drive of "eigen" or "eigen_697"."""
    return eigen_train(), eigen_test(with_depth=name != "eigen_697")


def _rows(table: dict[str, str]) -> dict[str, str]:
    """Whole drive name -> the text after its number's colon."""
    rows = {}
    for date, text in table.items():
        for word in text.split():
            number, rest = word.split(":")
            rows[f"{date}_drive_{number}_sync"] = rest
    return rows


def _frames(text: str) -> list[int]:
    frames: list[int] = []
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        frames += range(int(first), int(last or first) + 1, int(step or 1))
    return frames
