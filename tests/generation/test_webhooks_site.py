"""Webhooks on a running site: real processes from the request to the receiver, one of them killed."""

from standardwebhooks import Webhook

from tests.receiver import Receiver
from tests.site import wait_for


def test_a_finished_image_is_told_of_also_after_the_maintenance_process_was_killed(fault_site):
    with Receiver() as receiver, fault_site.user() as client:
        made = client.post("/api/webhooks", json={"url": receiver.url}).raise_for_status().json()
        first = client.post("/api/generate", json={"prompt": "a boat", "steps": 2}).raise_for_status().json()

        def states():
            deliveries = client.get(f"/api/webhooks/{made['id']}/deliveries").json()["deliveries"]
            return [delivery["state"] for delivery in deliveries]

        wait_for(lambda: states() == ["delivered"], what="the first message")
        fault_site.kill("maintenance")
        second = client.post("/api/generate", json={"prompt": "a ship", "steps": 2}).raise_for_status().json()
        wait_for(lambda: len(receiver.messages) > 1, what="the second message")
        received = [Webhook(made["secret"]).verify(message.body, message.headers) for message in receiver.messages]
        assert [event["data"]["id"] for event in received] == [first["id"], second["id"]]
        assert {event["type"] for event in received} == {"generation.completed"}
        image = client.get(received[0]["data"]["images"][0]["imageUrl"])
        assert image.content.startswith(b"\x89PNG")
        wait_for(lambda: states() == ["delivered"] * 2, what="both recorded")
