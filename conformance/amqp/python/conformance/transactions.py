"""Class tx. Millstream does not serve it yet, and says so."""

from .harness import check, refused


@check("transactions are refused", peer="millstream")
def refused_so_far(context):
    connection = context.connect()
    channel = connection.channel()
    refused(540, "NOT_IMPLEMENTED - transactions", channel.tx_select)
