"""supervisord: its daemon, its XML-RPC interface, and the processes of this machine."""
