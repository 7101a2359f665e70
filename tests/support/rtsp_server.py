"""An RTSP server for the tests, on GStreamer: serves one MP4 file from its beginning to everyone who asks, paced as it
was recorded. Arguments: file, h264 or h265, port (0 takes a free one), and USER:PASSWORD if any. Prints the port."""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

path, codec, port = sys.argv[1:4]
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
sound = "d.audio_0 ! queue ! rtpmp4gpay name=pay1 pt=97" if codec == "h264" else ""
factory.set_launch(f'( filesrc location="{path}" ! qtdemux name=d d.video_0 ! queue ! rtp{codec}pay name=pay0 pt=96 {sound} )')
if len(sys.argv) > 4:
    user, password = sys.argv[4].split(":")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "guard")
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    allowed = GstRtspServer.RTSPPermissions()
    allowed.add_permission_for_role("guard", "media.factory.access", True)
    allowed.add_permission_for_role("guard", "media.factory.construct", True)
    factory.set_permissions(allowed)
server.get_mount_points().add_factory("/gate", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
