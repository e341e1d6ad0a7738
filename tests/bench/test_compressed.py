"""The bench of compression runs over all heaps and methods, and compares what comes back; no time is asserted."""

import shutil

from bench import compressed


def test_it_prints_a_line_for_each_heap_and_method_and_one_for_the_device(monkeypatch, capsys):
    for name, value in (
        ("PAGES", 100), ("TRAINING", 100), ("ROUNDS", 1), ("RECORDS", 1000), ("NUMBERS", 1 << 14), ("KEYS", 500),
    ):  # fmt: skip
        monkeypatch.setattr(compressed, name, value)
    compressed.main()
    lines = capsys.readouterr().out.splitlines()[2:]
    names = ["JSON heap", "NumPy heap", *(["Redis heap"] if shutil.which("redis-server") else [])]
    methods = ["zstd -5", "zstd -1", "zstd 1", "zstd 3", "zstd 6", "zstd 1, dict", "zstd 3, dict", "lz4", "lz4, dict"]
    assert [(line[2:12].strip(), line[13:25].strip()) for line in lines if "skipped" not in line] == [
        (name, method) for name in names for method in [*methods, "device"]
    ]
    assert all(float(line.partition("ratio")[2].split()[0]) >= 1 for line in lines if "ratio" in line)
