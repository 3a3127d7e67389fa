"""Changes the checkpoint in an exported image: tamper.py HOW FROM TO."""
import hashlib, io, json, sys, tarfile

how, source, target = sys.argv[1:]
MANIFEST = "mycedrive-checkpoint.json"

with tarfile.open(source) as archive:
    files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}


def add(content):
    digest = hashlib.sha256(content).hexdigest()
    files["blobs/sha256/" + digest] = content
    return "sha256:" + digest, len(content)


def change(checkpoint):
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(checkpoint)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            content = old.extractfile(member).read() if member.isfile() else None
            if member.name.lstrip("./") == MANIFEST and how == "descriptors":
                # As of another program: only what can be seen of the files is checked.
                continue
            if member.name.lstrip("./") == MANIFEST and how in ("cpu", "engine"):
                manifest = json.loads(content)
                if how == "cpu":
                    manifest["cpu_features"].append("avx9000")
                if how == "engine":
                    manifest["engine"] = "other"
                content = json.dumps(manifest).encode()
            if member.name.lstrip("./") == "descriptors.json" and how == "descriptors":
                content = json.dumps(["/dev/null"] * 5).encode()
            if member.name.endswith("pages-1.img") and how == "content":
                content = content[:-1] + bytes([content[-1] ^ 1])
            if content is not None:
                member.size = len(content)
            new.addfile(member, io.BytesIO(content) if content is not None else None)
        if how == "extra":
            new.addfile(tarfile.TarInfo("core-99.img"))
        if how == "link":
            link = tarfile.TarInfo("parent")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc"
            new.addfile(link)
    return out.getvalue()


top = json.loads(files["index.json"])
for entry in top["manifests"]:
    inner = json.loads(files["blobs/sha256/" + entry["digest"].split(":")[1]])
    for blob in inner["manifests"]:
        if "criu.checkpoint.criu" in blob["mediaType"]:
            content = files["blobs/sha256/" + blob["digest"].split(":")[1]]
            blob["digest"], blob["size"] = add(change(content))
    entry["digest"], entry["size"] = add(json.dumps(inner).encode())
files["index.json"] = json.dumps(top).encode()

with tarfile.open(target, "w") as archive:
    for name, content in files.items():
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
