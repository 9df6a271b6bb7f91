"""Run by the interpreter that has MONAI Label's client: info, session, infer. Prints JSON."""

from __future__ import annotations

import json
import sys

from monailabel.client import MONAILabelClient

url, scan, folder, password = sys.argv[1:5]
client = MONAILabelClient(url, tmpdir=folder)
answers = {"auth": client.auth_enabled()}
if password:
    client.update_auth(client.auth_token("user", password))
    answers["valid"] = client.auth_valid_token()
answers["info"] = client.info()
session = client.create_session(scan)
answers["session"] = client.get_session(session["session_id"])
# The client keeps the headers of one call for the next where a token is set.
client = MONAILabelClient(url, tmpdir=folder)
if password:
    client.update_auth(client.auth_token("user", password))
image, params = client.infer("one", session["session_id"], {}, session_id=session["session_id"])
answers["image"], answers["params"] = image, params
image, _ = client.infer("one", "", {"result_extension": ".nrrd"}, file=scan)
answers["nrrd"] = image
client = MONAILabelClient(url, tmpdir=folder)
if password:
    client.update_auth(client.auth_token("user", password))
client.remove_session(session["session_id"])
print(json.dumps(answers))
