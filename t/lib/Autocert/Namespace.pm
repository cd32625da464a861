# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A network of its own for a test file: nothing but a loopback with every port from 1 up, and names are
# asked of 127.0.0.1:53. For what insists on the ports and the resolver of the real world.
#
#   my $refused = Autocert::Namespace::enter();    # before anything is started
#
# The file is started again in there, as the same process, so that it is bounded and ended as any other,
# and as the same user. Processes and files are those of outside.
package Autocert::Namespace;

use strict;
use warnings;

use File::Basename ();

use Autocert::Util qw(scratch spit run_program);

my $INSIDE = 'AUTOCERT_NAMESPACE';

# In the new namespaces, where every user is root: the first argument is the file with the resolver's
# configuration, the others are the command.
my $PREPARE = <<'SH';
set -e
ip link set lo up
echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
mount --bind "$1" /etc/resolv.conf
shift
exec "$@"
SH

# Returns undef inside. Where it is not allowed to make namespaces: the reason.
sub enter
{
    # A process that execs keeps its number; one that is started by this one is not meant.
    return if ($ENV{$INSIDE} // '') eq $$;
    # Another user's PATH may lack what ip lies in.
    local $ENV{PATH} = "$ENV{PATH}:/usr/sbin:/sbin";
    my $resolver = spit(scratch() . "/resolv.conf.$$", "nameserver 127.0.0.1\n", 0644);
    my $root = $> == 0;
    my @enter = ('unshare', $root ? () : ('--user', '--map-root-user'), '--net', '--mount',
        'sh', '-c', $PREPARE, 'sh', $resolver,
        $root ? () : ('unshare', '--user', "--map-user=$>", '--map-group=' . ($) + 0)));
    my ($status, $text) = run_program([@enter, 'true']);
    if ($status) {
        $text =~ s/\s+\z//;
        return $text eq '' ? "unshare: status $status" : $text;
    }
    $ENV{$INSIDE} = $$;
    my $lib = File::Basename::dirname(File::Basename::dirname(__FILE__));
    no warnings 'exec';
    exec { $enter[0] } @enter, $^X, '-w', "-I$lib", $0 or die "$enter[0]: $!\n";
}

1;
