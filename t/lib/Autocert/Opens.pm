# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Which files of a directory are opened, by anybody, as the kernel tells (inotify).
#
#   my $opens = Autocert::Opens->new($server->cache);
#   ... $opens->names    a sorted list of the names opened since the last call
package Autocert::Opens;

use strict;
use warnings;

use IO::Handle ();
use POSIX ();

use constant {
    NONBLOCK    => 04000,        # IN_NONBLOCK
    OPENED      => 0x20,         # IN_OPEN
    EVENT_HEAD  => 16,           # struct inotify_event before the name
    READ_BYTES  => 65_536,
};

# Numbers of inotify_init1 and inotify_add_watch; newer architectures share one table.
my %CALLS = (
    x86_64 => [294, 254], i386 => [332, 292], i686 => [332, 292], arm => [360, 317],
    armv7l => [360, 317], ppc64le => [318, 276], s390x => [324, 285],
);
my $CALLS_OF_OTHERS = [26, 27];

sub new
{
    my ($class, $dir) = @_;

    my ($init, $add) = @{ $CALLS{ (POSIX::uname())[4] } // $CALLS_OF_OTHERS };
    my $fd = syscall $init, NONBLOCK;
    die "inotify: $!\n" if $fd < 0;
    open my $in, '<&=', $fd or die "inotify: $!\n";
    my $path = "$dir\0";
    die "inotify: $dir: $!\n" if syscall($add, $fd, $path, OPENED) < 0;
    return bless { in => $in }, $class;
}

sub names
{
    my ($self) = @_;

    my %seen;
    while (sysread $self->{in}, my $events, READ_BYTES) {
        while (length $events >= EVENT_HEAD) {
            my ($length) = unpack 'x12 L', $events;
            my (undef, $name) = unpack 'a' . EVENT_HEAD . " Z$length", $events;
            $seen{$name} = 1;
            substr $events, 0, EVENT_HEAD + $length, '';
        }
    }
    my @names = sort keys %seen;
    return @names;
}

1;
