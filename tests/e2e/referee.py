"""Signs requests with Slack's own SDK and says what Slack's own framework answers to each.

Prints one JSON object a line: name, headers, body, and Bolt's status.
"""

import json
import re
import sys
import time
from urllib.parse import urlencode

from slack_bolt import App, BoltRequest
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.signature import SignatureVerifier

secret = sys.argv[1]
verifier = SignatureVerifier(secret)
now = int(time.time())


def authorize(**_):
    return AuthorizeResult(enterprise_id=None, team_id="T1", bot_token="xoxb-1",
                           bot_id="B0BOT", bot_user_id="U0BOT")


app = App(signing_secret=secret, authorize=authorize, token_verification_enabled=False,
          process_before_response=True)
app.event("app_mention")(lambda ack: ack())
app.command("/aof")(lambda ack: ack())
app.action(re.compile(".*"))(lambda ack: ack())


def mention(text, n):
    return json.dumps({
        "team_id": "T1", "api_app_id": "A1", "type": "event_callback", "event_id": f"Ev{n}",
        "authorizations": [{"team_id": "T1", "user_id": "U0BOT", "is_bot": True}],
        "event": {"type": "app_mention", "user": "U0000001", "text": f"<@U0BOT> {text}",
                  "ts": f"1700000000.{n:06}", "channel": "C0000001", "event_ts": "1700000000.1"},
    }, ensure_ascii=False)


slash = urlencode({"command": "/aof", "text": "uname -s; ümlaut & more", "user_id": "U0000001",
                   "team_id": "T1", "channel_id": "C0000001", "channel_name": "privategroup",
                   "trigger_id": "1.2.3", "api_app_id": "A1", "token": "gone"})
block = urlencode({"payload": json.dumps({
    "type": "block_actions", "team": {"id": "T1"}, "user": {"id": "U0000001"},
    "api_app_id": "A1", "trigger_id": "4.5.6", "channel": {"id": "C0000001"},
    "actions": [{"type": "button", "block_id": "b", "action_id": "another",
                 "value": "v", "action_ts": "1.1"}]})})
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


def signed(body, at=now, using=verifier):
    return using.generate_signature(timestamp=str(at), body=body)


def show(name, kind, body, at=now, signature=""):
    headers = {"content-type": kind}
    if at is not None:
        headers["x-slack-request-timestamp"] = str(at)
    if signature is not None:
        headers["x-slack-signature"] = signature or signed(body, at)
    asked = {name: [value] for name, value in headers.items()}
    status = app.dispatch(BoltRequest(body=body, headers=asked)).status
    print(json.dumps({"name": name, "headers": headers, "body": body, "bolt": status}))


show("event", JSON, mention("uname -s", 1))
show("event, unicode", JSON, mention("naïve 日本語 🚀 \u202e", 2))
show("event, escaped unicode", JSON, json.dumps(json.loads(mention("日本語 🚀", 3))))
show("event, 60,000 characters", JSON, mention("x" * 60_000, 4))
show("event, spaced and with a newline", JSON, "  " + mention("uname", 5) + "\n")
show("slash command", FORM, slash)
show("block action", FORM, block)
show("297 s old", JSON, mention("uname", 6), now - 297)
for kind, body in ((JSON, mention("uname -a", 10)), (FORM, slash), (FORM, block)):
    good, other = signed(body), SignatureVerifier(secret + "x")
    what = "event" if kind == JSON else "slash" if body is slash else "block"
    show(f"{what}: one byte altered", kind, body.replace("U0000001", "U0000002"), now, good)
    show(f"{what}: a byte appended", kind, body + " ", now, good)
    show(f"{what}: another secret", kind, body, now, signed(body, using=other))
    show(f"{what}: signature altered", kind, body, now, good[:-1] + ("0" if good[-1] != "0" else "1"))
    show(f"{what}: signature cut", kind, body, now, good[:-2])
    show(f"{what}: signature without v0=", kind, body, now, good[3:])
    show(f"{what}: of version v1", kind, body, now, "v1" + good[2:])
    show(f"{what}: signature missing", kind, body, now, None)
    show(f"{what}: timestamp missing", kind, body, None, good)
    show(f"{what}: both missing", kind, body, None, None)
    show(f"{what}: timestamp moved", kind, body, now - 1, good)
    show(f"{what}: 305 s old", kind, body, now - 305)
    show(f"{what}: 305 s ahead", kind, body, now + 305)
