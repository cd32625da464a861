# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A client's memory for one TLS session, for IO::Socket::SSL's SSL_session_cache.
#
# It keeps the session's bytes and not the object: OpenSSL marks the object as not
# resumable when the context it was made in is freed, which IO::Socket::SSL's own
# cache survives only if all connections share a context.
package Autocert::Sessions;

use strict;
use warnings;

use Net::SSLeay ();

sub new
{
    my ($class) = @_;
    return bless {}, $class;
}

# Is there a session to resume?
sub has_session
{
    return defined $_[0]{der};
}

sub forget
{
    delete $_[0]{der};
    return;
}

# The reference that is handed over is ours to free. 0: OpenSSL keeps its own.
sub add_session
{
    my ($self, undef, $session) = @_;
    $self->{der} = Net::SSLeay::i2d_SSL_SESSION($session);
    Net::SSLeay::SESSION_free($session);
    return 0;
}

# Called when OpenSSL forgets a session, which is no reason to do so here.
sub del_session
{
    return 0;
}

sub get_session
{
    my ($self) = @_;
    return unless defined $self->{der};
    $self->release;
    return $self->{offered} = Net::SSLeay::d2i_SSL_SESSION($self->{der});
}

sub release
{
    my ($self) = @_;
    my $session = delete $self->{offered} or return;
    Net::SSLeay::SESSION_free($session);
    return;
}

sub DESTROY
{
    $_[0]->release;
    return;
}

1;
