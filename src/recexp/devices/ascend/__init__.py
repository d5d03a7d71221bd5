"""Everything about Huawei's Ascend NPUs behind ``recexp.devices.npu``. Imports nothing of recexp's configuration."""
