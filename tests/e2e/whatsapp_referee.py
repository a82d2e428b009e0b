"""Signs and reads WhatsApp's bodies, and sends messages, with pywa, a client that others wrote.

Prints one JSON object a line. `case`: name, signature, body, whether pywa takes the signature, and
what it reads. `sends`: the path and the body of the request that pywa makes.
"""

import hashlib
import hmac
import json
import sys

import httpx
from pywa import WhatsApp, types, utils

secret = sys.argv[1]
client = WhatsApp(phone_id="1001", token="tok")


def sign(body, key=secret):
    return "sha256=" + hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()


def body(message, user_id="US.1001", wa_id="15550002001"):
    contact = {"profile": {"name": "Ann"}, "user_id": user_id}
    if wa_id:
        contact["wa_id"] = wa_id
        message = {**message, "from": wa_id}
    else:
        message = {**message, "from_user_id": user_id}
    value = {"messaging_product": "whatsapp", "contacts": [contact], "messages": [message],
             "metadata": {"display_phone_number": "15550001000", "phone_number_id": "1001"}}
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]})


def text(n, said):
    return {"id": f"wamid.{n}", "timestamp": "1700000000", "type": "text", "text": {"body": said}}


def show(name, sent, signature, read=None):
    try:
        taken = utils.webhook_updates_validator(secret, sent.encode(), signature)
    except (AttributeError, TypeError):
        taken = False
    if read:
        update = read.from_update(client, json.loads(sent))
        who = update.from_user
        read = {"id": update.id, "user": who.bsuid or who.wa_id,
                "text": getattr(update, "text", None) or getattr(update, "title", None)
                or getattr(update, "caption", None)}
    print(json.dumps({"case": name, "body": sent, "signature": signature, "taken": taken,
                      "read": read}))


plain = body(text(1, "uname -s"))
show("a text", plain, sign(plain), types.Message)
odd = body(text(2, "naïve 日本語 🚀 a/b"))
show("unicode, escaped", odd, sign(odd), types.Message)
raw = json.dumps(json.loads(odd.replace("wamid.2", "wamid.3")), ensure_ascii=False)
show("unicode, as it is", raw, sign(raw), types.Message)
hidden = body(text(4, "who am I"), wa_id=None)
show("nobody's number", hidden, sign(hidden), types.Message)
image = body({"id": "wamid.5", "timestamp": "1700000000", "type": "image",
              "image": {"id": "65", "mime_type": "image/jpeg", "sha256": "x", "caption": "look"}})
show("an image", image, sign(image), types.Message)
button = body({"id": "wamid.6", "timestamp": "1700000000", "type": "interactive",
               "context": {"from": "15550001000", "id": "wamid.X"},
               "interactive": {"type": "button_reply",
                               "button_reply": {"id": "other", "title": "Restart"}}})
show("a button", button, sign(button), types.CallbackButton)
good = sign(plain)
show("another secret", plain, sign(plain, secret + "x"))
show("a byte altered", plain.replace("uname", "unamf"), good)
show("a byte appended", plain + " ", good)
show("signature altered", plain, good[:-1] + ("0" if good[-1] != "0" else "1"))
show("signature cut", plain, good[:-2])
show("signature empty", plain, "")
show("serialised again", json.dumps(json.loads(plain), indent=1), good)

requests = []


def record(request):
    requests.append(request)
    return httpx.Response(200, json={"messages": [{"id": "wamid.SENT"}],
                                     "contacts": [{"input": "1", "wa_id": "1"}]})


sender = WhatsApp(phone_id="1001", token="tok",
                  session=httpx.Client(transport=httpx.MockTransport(record)))
sender.send_message(to="15550002001", text="TEXT", reply_to_message_id="wamid.A")
sender.send_message(to="US.1001", text="TEXT", reply_to_message_id="wamid.A")
buttons = [types.Button(title="Approve", callback_data="APPROVE"),
           types.Button(title="Deny", callback_data="DENY")]
sender.send_message(to="15550002001", text="TEXT", buttons=buttons, reply_to_message_id="wamid.A")
for request in requests:
    print(json.dumps({"sends": request.url.path, "body": json.loads(request.content)}))
